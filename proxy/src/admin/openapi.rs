//! The description of this API, made from the handlers themselves.

use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, PathItem, Ref, RefOr, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::access::needed;

/// The name of the way to show a token.
const TOKEN: &str = "token";

/// What is wrong, and what mends it (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
struct ProblemView {
    /// What kind of problem it is; `about:blank`, for the status says it.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What is wrong.
    detail: String,
    /// What mends it.
    mend: String,
    /// Where in the body, as a JSON pointer (RFC 6901), where one thing in it is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    r#where: Option<String>,
}

/// The path of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(openapi))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "status",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)))]
async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], text()).into_response()
}

/// The description as JSON.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let document = described(super::routes().into_openapi());
        // What is made of texts and lists always serialises.
        document.to_pretty_json().unwrap_or_default() + "\n"
    })
}

/// Adds what all operations have in common: the problem document, and the scope that a token needs.
fn described(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("checkgate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "What operators and programs ask of checkgate. Every error is a problem document with what is wrong and \
             what mends it. GET changes nothing. A change is answered once the ledger took it; the header \
             Checkgate-Durable says whether a restart leaves it.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let components = document.components.get_or_insert_default();
    components.schemas.insert("Problem".to_owned(), ProblemView::schema());
    components
        .security_schemes
        .insert(TOKEN.to_owned(), RefOr::T(SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer))));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            describe(path, &method, operation);
        }
    }
    document
}

fn describe(path: &str, method: &HttpMethod, operation: &mut Operation) {
    let problem = ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Problem")))).build();
    let response = ResponseBuilder::new()
        .description("What is wrong, and what mends it")
        .content("application/problem+json", problem)
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response));
    let method = match method {
        HttpMethod::Get => http::Method::GET,
        _ => http::Method::POST,
    };
    operation.security = needed(path, &method)
        .map(|scope| vec![SecurityRequirement::new(TOKEN, [scope.as_str()])])
        .or(Some(Vec::new()));
}

/// The operations of a path with their methods.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Delete, &mut item.delete),
        (HttpMethod::Patch, &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}
