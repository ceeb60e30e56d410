//! A collector that keeps what it gets: gRPC by HTTP/2, protobuf by HTTP/1.1, on one port each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use checkgate_config::settings::OtlpProtocol;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tower::Service;

/// What it answers.
#[derive(Clone, Debug)]
pub enum Answers {
    /// It takes everything.
    Takes,
    /// It takes all but so many data points.
    Partly(i64),
    /// It answers a status of HTTP, or of gRPC, with headers.
    Fails(u16, tonic::Code, &'static [(&'static str, &'static str)]),
    /// It never answers.
    Hangs,
}

/// What it got.
#[derive(Default)]
pub struct Got {
    pub metrics: Vec<ExportMetricsServiceRequest>,
    pub traces: Vec<ExportTraceServiceRequest>,
    pub logs: Vec<ExportLogsServiceRequest>,
    pub heads: Vec<(String, HeaderMap)>,
}

#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Got>>,
    answers: Arc<Mutex<Answers>>,
}

impl Receiver {
    /// Listens for one protocol, until the runtime ends.
    pub async fn start(protocol: OtlpProtocol, answers: Answers) -> Self {
        Self::start_with(protocol, answers, None).await
    }

    /// The same, by TLS where there is an acceptor.
    pub async fn start_with(protocol: OtlpProtocol, answers: Answers, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Self { address, got: Arc::default(), answers: Arc::new(Mutex::new(answers)) };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (serving, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serving.connection(socket, protocol).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(socket).await {
                                serving.connection(stream, protocol).await;
                            }
                        }
                    }
                });
            }
        });
        receiver
    }

    pub fn answers(&self, answers: Answers) {
        *self.answers.lock() = answers;
    }

    /// Looks at what came.
    pub fn got<R>(&self, look: impl FnOnce(&Got) -> R) -> R {
        look(&self.got.lock())
    }

    /// Waits until `there` holds of what came.
    pub async fn until(&self, there: impl Fn(&Got) -> bool) {
        for _ in 0..1000 {
            if self.got(&there) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("what was awaited did not come");
    }

    async fn connection(
        self,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        protocol: OtlpProtocol,
    ) {
        let io = TokioIo::new(socket);
        match protocol {
            OtlpProtocol::Grpc => {
                let service = service_fn(move |request| self.clone().grpc(request));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(io, service).await);
            }
            OtlpProtocol::HttpProtobuf => {
                let service = service_fn(move |request| self.clone().http(request));
                drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
            }
        }
    }

    fn note(&self, request: &Request<Incoming>) {
        self.got.lock().heads.push((request.uri().path().to_owned(), request.headers().clone()));
    }

    async fn grpc(self, request: Request<Incoming>) -> Result<Response<tonic::body::Body>, Infallible> {
        self.note(&request);
        let answers = self.answers.lock().clone();
        match answers {
            Answers::Hangs => std::future::pending().await,
            Answers::Fails(_, code, _) => return Ok(Status::new(code, "no").into_http()),
            Answers::Takes | Answers::Partly(_) => {}
        }
        let service = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        match service.rsplit('.').next() {
            Some("MetricsService") => MetricsServiceServer::new(self).call(request).await,
            Some("TraceService") => TraceServiceServer::new(self).call(request).await,
            _ => LogsServiceServer::new(self).call(request).await,
        }
    }

    async fn http(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        self.note(&request);
        let answers = self.answers.lock().clone();
        if let Answers::Hangs = answers {
            std::future::pending::<()>().await;
        }
        if let Answers::Fails(status, _, headers) = answers {
            let mut answer = Response::builder().status(status);
            for (name, value) in headers {
                answer = answer.header(*name, *value);
            }
            return Ok(answer.body(Full::default()).unwrap());
        }
        let path = request.uri().path().to_owned();
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        let answer = match path.as_str() {
            "/v1/metrics" => {
                let message = ExportMetricsServiceRequest::decode(bytes).unwrap();
                let answer = self.export_metrics(message);
                answer.encode_to_vec()
            }
            "/v1/traces" => {
                self.got.lock().traces.push(ExportTraceServiceRequest::decode(bytes).unwrap());
                ExportTraceServiceResponse::default().encode_to_vec()
            }
            _ => {
                self.got.lock().logs.push(ExportLogsServiceRequest::decode(bytes).unwrap());
                ExportLogsServiceResponse::default().encode_to_vec()
            }
        };
        Ok(Response::new(Full::new(answer.into())))
    }

    fn export_metrics(&self, message: ExportMetricsServiceRequest) -> ExportMetricsServiceResponse {
        self.got.lock().metrics.push(message);
        let partial_success = match *self.answers.lock() {
            Answers::Partly(rejected_data_points) => {
                Some(ExportMetricsPartialSuccess { rejected_data_points, error_message: "too many".into() })
            }
            _ => None,
        };
        ExportMetricsServiceResponse { partial_success }
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        Ok(tonic::Response::new(self.export_metrics(request.into_inner())))
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        self.got.lock().traces.push(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        self.got.lock().logs.push(request.into_inner());
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}
