//! Which model a question is about: what the asking proxy says of the request that it holds.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::Terms;
use crate::way::route::Routes;

/// Where questions are asked; behind it may stand the path of the request that is held.
const HERE: &str = "/authz";
/// Headers in which proxies write down the path: nginx, ingress-nginx, Traefik.
const PATHS: [&str; 3] = ["x-original-uri", "x-original-url", "x-forwarded-uri"];
/// Headers in which they write down the method.
const METHODS: [&str; 2] = ["x-original-method", "x-forwarded-method"];

/// What may be meant. Of several headers one may be the client's own, so that the strictest of what they name holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    methods: Vec<Method>,
    paths: Vec<String>,
}

impl Subject {
    /// Of a question over HTTP.
    pub fn of_request(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        let named = |name: &&str| headers.get(*name)?.to_str().ok();
        let methods = METHODS.iter().filter_map(|name| named(name)?.parse().ok());
        let mut methods: Vec<Method> = methods.collect();
        if methods.is_empty() {
            methods.push(method.clone());
        }
        let own =
            path.strip_prefix(HERE).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path);
        let own = Some(own).filter(|own| !matches!(*own, "" | "/"));
        let told = PATHS.iter().filter_map(|name| path_of(named(name)?));
        Self { methods, paths: told.chain(own).map(str::to_owned).collect() }
    }

    /// Of a question in which the request is told as a message.
    pub fn of_message(method: &str, path: &str) -> Self {
        let method = method.parse().unwrap_or(Method::POST);
        Self { methods: vec![method], paths: path_of(path).map(str::to_owned).into_iter().collect() }
    }

    /// What holds for it: the strictest of what holds for its models, and `unclaimed` where no model claims it. With the
    /// names of those for which decisions are asked; none where it is not told what is held.
    pub fn terms(&self, routes: &Routes, unclaimed: Terms) -> (Terms, Vec<Arc<str>>) {
        let of = |method: &Method, path: &str| match routes.find(method, path) {
            Some(route) => {
                let (enforces, policy) = (route.guard.enforces, &route.guard.policy);
                (Terms { enforces, per_minute: policy.requests_per_minute }, route.named())
            }
            None => (unclaimed, "".into()),
        };
        let all = self.paths.iter().flat_map(|path| self.methods.iter().map(move |method| of(method, path)));
        let all: Vec<_> = all.collect();
        let terms = all.iter().map(|(terms, _)| *terms).reduce(Terms::and).unwrap_or(unclaimed);
        // A decision at a model in `observe` refuses nobody, whatever else is named.
        let asked = all.into_iter().filter(|(own, _)| own.enforces == terms.enforces);
        (terms, asked.map(|(_, name)| name).collect())
    }
}

/// The path in a target that may be a whole URL and may have a query.
fn path_of(target: &str) -> Option<&str> {
    let target = target.split(['?', '#']).next()?;
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| rest.get(at..).unwrap_or("/")),
        None => target,
    };
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(path: &str, headers: &[(&'static str, &str)]) -> (Vec<String>, Vec<String>) {
        let lines = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let subject = Subject::of_request(&Method::GET, path, &lines.collect());
        (subject.methods.iter().map(ToString::to_string).collect(), subject.paths)
    }

    #[test]
    fn each_proxy_says_in_its_own_words_what_it_holds() {
        let (methods, paths) =
            subject("/authz", &[("x-original-uri", "/a?b=c"), ("x-original-method", "POST")]);
        assert_eq!((methods, paths), (vec!["POST".to_owned()], vec!["/a".to_owned()]), "nginx");
        let (methods, paths) = subject("/authz", &[("x-forwarded-uri", "/a"), ("x-forwarded-method", "PUT")]);
        assert_eq!((methods, paths), (vec!["PUT".to_owned()], vec!["/a".to_owned()]), "Traefik");
        assert_eq!(subject("/authz/v2/models/a/infer", &[]).1, ["/v2/models/a/infer"], "Envoy");
        assert_eq!(
            subject("/", &[("x-original-url", "https://host.example/a/b?c")]).1,
            ["/a/b"],
            "ingress-nginx"
        );
        assert!(subject("/authz", &[]).1.is_empty() && subject("/authz/", &[]).1.is_empty(), "nobody says");
        assert_eq!(subject("/authzed", &[]).1, ["/authzed"], "another path");
    }

    #[test]
    fn what_a_client_adds_stands_beside_what_its_proxy_says() {
        let headers =
            [("x-forwarded-uri", "/guarded"), ("x-original-uri", "/free"), ("x-original-method", "GET")];
        assert_eq!(subject("/authz", &headers).1, ["/free", "/guarded"]);
        let strict = Terms { enforces: true, per_minute: 60 };
        let lax = Terms { enforces: false, per_minute: 1 };
        assert_eq!((strict.and(lax), lax.and(strict)), (strict, strict));
        assert_eq!(strict.and(Terms { per_minute: 6, ..strict }).per_minute, 6);
    }

    #[test]
    fn a_target_that_is_none_names_no_path() {
        for target in ["", "?a", "a/b", "*", "http:/x"] {
            assert_eq!(path_of(target), None, "{target}");
        }
        assert_eq!(path_of("http://host"), Some("/"));
    }
}
