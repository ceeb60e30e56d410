//! Every protocol that clients may speak, against the real binary.

use std::time::Duration;

use anyhow::ensure;
use checkgate_load_tests::checkgate::Start;
use checkgate_load_tests::http2::{self, http1, http2 as speak_http2, whole_reply};
use checkgate_load_tests::model_server::{Answer, ModelServer, Step};
use checkgate_load_tests::tls::{Authority, BOTH_VERSIONS, Issued, connect, shown};
use checkgate_load_tests::{whole, within};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

type Result = anyhow::Result<()>;

fn configured(model: &ModelServer, tls: Value) -> Start {
    let upstream = format!("http://{}", model.address);
    Start::configured(json!({"upstream": upstream, "tls": tls}))
}

fn files(issued: &Issued) -> Value {
    json!({"certificate": issued.certificate, "key": issued.key})
}

fn get(path: &str) -> http::Result<Request<checkgate_load_tests::Body>> {
    Request::get(path).header("host", "models.test").body(whole(""))
}

#[tokio::test]
async fn http_2_by_prior_knowledge_carries_bodies_both_ways() -> Result {
    let model = ModelServer::echo().await?;
    let proxy = Start::in_front_of(model.address).run().await?;
    let mut sender = speak_http2(TcpStream::connect(proxy.address).await?).await?;
    let body = vec![b'x'; 3 << 20];
    let reply = whole_reply(sender.send_request(http2::post("/echo", whole(body.clone()))?)).await?;
    assert_eq!(reply.status, 200);
    assert!(reply.body == body, "{} bytes came back of {}", reply.body.len(), body.len());
    let heads = model.heads();
    let (_, path, headers) = heads.first().expect("one request");
    assert_eq!(path, "/echo");
    assert!(headers.contains_key("host"), "the model speaks HTTP/1.1: {headers:?}");
    Ok(())
}

#[tokio::test]
async fn alpn_chooses_the_protocol_and_both_versions_of_tls_are_spoken() -> Result {
    let (model, authority) = (ModelServer::echo().await?, Authority::new()?);
    let proxy = configured(&model, files(&authority.issue("server", &["models.test"])?)).run().await?;
    for version in BOTH_VERSIONS {
        let client = authority.client(&["h2", "http/1.1"], &[version], None)?;
        let stream = connect(proxy.address, client, "models.test").await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut sender = speak_http2(stream).await?;
        let reply = whole_reply(sender.send_request(http2::post("/", whole("two"))?)).await?;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "two"), "{version:?}");
        for alpn in [&["http/1.1"][..], &[]] {
            let client = authority.client(alpn, &[version], None)?;
            let mut sender = http1(connect(proxy.address, client, "models.test").await?).await?;
            let mut request = http2::post("/", whole("one"))?;
            *request.uri_mut() = "/".parse()?;
            request.headers_mut().insert("host", HeaderValue::from_static("models.test"));
            let reply = whole_reply(sender.send_request(request)).await?;
            assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "one"), "{version:?} {alpn:?}");
        }
    }
    let plain = checkgate_load_tests::client::Client::to(proxy.address).get("/").await;
    assert!(plain.is_err(), "a listener with TLS answered in the clear");
    Ok(())
}

#[tokio::test]
async fn the_name_that_is_asked_for_chooses_the_certificate() -> Result {
    let (model, authority) = (ModelServer::echo().await?, Authority::new()?);
    let first = authority.issue("first", &["models.test"])?;
    let second = authority.issue("second", &["*.other.test"])?;
    let proxy = configured(&model, json!({"certificates": [files(&first), files(&second)]})).run().await?;
    for (name, issued) in [("models.test", &first), ("eu.other.test", &second)] {
        let client = authority.client(&[], BOTH_VERSIONS, None)?;
        let stream = connect(proxy.address, client, name).await?;
        assert_eq!(shown(&stream).as_ref(), Some(&issued.der), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_has_no_certificate_is_refused_where_one_is_required() -> Result {
    let (model, authority) = (ModelServer::echo().await?, Authority::new()?);
    let server = authority.issue("server", &["models.test"])?;
    let mut tls = files(&server);
    tls["client_ca"] = json!(authority.file());
    let proxy = configured(&model, tls).run().await?;
    let own = authority.issue("client", &["client"])?;
    let client = authority.client(&[], BOTH_VERSIONS, Some(&own))?;
    let mut sender = http1(connect(proxy.address, client, "models.test").await?).await?;
    assert_eq!(whole_reply(sender.send_request(get("/")?)).await?.status, 200);
    let nobody = authority.client(&[], BOTH_VERSIONS, None)?;
    let refused = async {
        let mut sender = http1(connect(proxy.address, nobody, "models.test").await?).await?;
        whole_reply(sender.send_request(get("/")?)).await
    };
    assert!(refused.await.is_err(), "a client without a certificate was served");
    ensure!(proxy.metric("checkgate_rejected_total", &[r#"reason="handshake""#]).await? >= 1.0);
    Ok(())
}

#[tokio::test]
async fn a_unix_socket_is_served_and_its_peer_is_this_machine() -> Result {
    let folder = tempfile::tempdir()?;
    let (model, socket) = (ModelServer::echo().await?, folder.path().join("checkgate.sock"));
    let proxy = Start::in_front_of(model.address).at_socket(&socket).run().await?;
    let mut sender = http1(UnixStream::connect(&socket).await?).await?;
    assert_eq!(whole_reply(sender.send_request(get("/here")?)).await?.status, 200);
    let mut sender = speak_http2(UnixStream::connect(&socket).await?).await?;
    assert_eq!(whole_reply(sender.send_request(http2::post("/there", whole("x"))?)).await?.status, 200);
    assert_eq!(model.requests(), 2);
    assert_eq!(model.heads()[0].2["x-forwarded-for"], "127.0.0.1");
    drop(proxy);
    Ok(())
}

#[tokio::test]
async fn events_pass_one_by_one_over_http_2() -> Result {
    let gate = Arc::new(Semaphore::new(0));
    let event = |text: &'static str| Step::Send(text.into());
    let steps = vec![
        event("data: 1\n\n"),
        Step::Await(Arc::clone(&gate)),
        event("data: 2\n\n"),
        Step::Await(Arc::clone(&gate)),
        event("data: 3\n\n"),
    ];
    let model = ModelServer::always(Answer::events([]).steps(steps)).await?;
    let proxy = Start::in_front_of(model.address).run().await?;
    let mut sender = speak_http2(TcpStream::connect(proxy.address).await?).await?;
    let answer = within("a head", sender.send_request(http2::post("/events", whole("{}"))?)).await??;
    let mut body = answer.into_body();
    for expected in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        let frame = within(expected, body.frame()).await?.expect("another event")?;
        assert_eq!(frame.into_data().expect("data"), expected, "each before the next is made");
        gate.add_permits(1);
    }
    Ok(())
}

#[tokio::test]
async fn trailers_of_answers_come_through() -> Result {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("42"));
    let steps = vec![Step::Send("{}".into()), Step::Trailers(trailers)];
    let model = ModelServer::always(Answer::json("").header("trailer", "x-checksum").steps(steps)).await?;
    let proxy = Start::in_front_of(model.address).run().await?;
    let mut sender = speak_http2(TcpStream::connect(proxy.address).await?).await?;
    let mut request = http2::post("/", whole("{}"))?;
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let reply = whole_reply(sender.send_request(request)).await?;
    let trailers = reply.trailers.expect("trailers over HTTP/2");
    assert_eq!(trailers["x-checksum"], "42");
    Ok(())
}

/// What a raw client hears until the server closes.
async fn said(proxy: std::net::SocketAddr, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    within("the end", stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}

#[tokio::test]
async fn an_upgrade_is_refused() -> Result {
    let model = ModelServer::echo().await?;
    let proxy = Start::in_front_of(model.address).run().await?;
    for upgrade in ["websocket", "h2c"] {
        let request =
            format!("GET / HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n");
        let answer = said(proxy.address, &request).await?;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(model.requests(), 0, "an upgrade reached the model");
    Ok(())
}

#[tokio::test]
async fn an_expectation_is_met_before_the_body_is_sent() -> Result {
    let model = ModelServer::echo().await?;
    let proxy = Start::in_front_of(model.address).run().await?;
    let mut stream = TcpStream::connect(proxy.address).await?;
    let head = "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut interim = [0; 25];
    within("100 Continue", stream.read_exact(&mut interim)).await??;
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"one").await?;
    let mut answer = String::new();
    within("the end", stream.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\none\r\n"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed_unless_it_asks_to_be_kept() -> Result {
    let model = ModelServer::always(Answer::json("{}")).await?;
    let proxy = Start::in_front_of(model.address).run().await?;
    let answer = said(proxy.address, "GET / HTTP/1.0\r\n\r\n").await?;
    assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("{}"), "{answer}");
    let twice = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    let answer = said(proxy.address, twice).await?;
    assert_eq!(answer.matches("HTTP/1.0 200 ").count(), 2, "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_cut_body_never_reaches_the_model_as_a_whole_one() -> Result {
    let model = ModelServer::echo().await?;
    let proxy = Start::in_front_of(model.address).run().await?;
    let cut = "POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0x";
    let mut stream = TcpStream::connect(proxy.address).await?;
    stream.write_all(cut.as_bytes()).await?;
    let mut answer = String::new();
    within("the end", stream.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(), "{answer}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!answer.contains(" 200 "), "the model took half a body for a whole one: {answer}");
    Ok(())
}
