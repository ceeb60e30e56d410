//! What must hold for the servers of one model together.

use std::collections::BTreeSet;

use super::*;
use crate::plan::ModelIds;

/// Settings with these servers behind everything, and more of an upstream's keys.
fn settings(servers: &[&str], more: &str) -> Settings {
    let servers: Vec<String> = servers.iter().map(|server| format!("{server:?}")).collect();
    let text = format!("upstream: {{ servers: [{}], {more} }}", servers.join(", "));
    checkgate_config::read(&text, "test", &crate::parts::all()).unwrap()
}

fn metrics() -> Arc<Metrics> {
    Metrics::new(&[], &[]).unwrap()
}

fn pool(servers: &[&str], more: &str) -> Arc<Pool> {
    upstreams(&settings(servers, more)).pools.remove(0)
}

fn upstreams(settings: &Settings) -> Upstreams {
    Upstreams::unwatched(settings, &ModelIds::default(), &metrics()).unwrap()
}

const THREE: [&str; 3] = ["http://10.0.0.1:80", "http://10.0.0.2:80", "http://10.0.0.3:80"];

fn positions(pool: &Arc<Pool>, count: usize) -> Vec<usize> {
    (0..count).filter_map(|_| pool.visit(7, &[])).map(|visit| visit.position()).collect()
}

#[test]
fn a_visit_counts_while_it_lives() {
    let pool = pool(&THREE[..1], "in_flight_per_server: 2");
    let visits = [pool.visit(7, &[]).unwrap(), pool.visit(7, &[]).unwrap()];
    assert!(pool.visit(7, &[]).is_none(), "two are open and no more may be");
    drop(visits);
    assert!(pool.visit(7, &[]).is_some());
    assert_eq!(pool.servers[0].open(), 0, "nothing stays behind");
}

#[test]
fn a_full_server_is_passed_over() {
    let pool = pool(&THREE, "in_flight_per_server: 1");
    let visits: Vec<Visit> = (0..3).filter_map(|_| pool.visit(7, &[])).collect();
    let taken: BTreeSet<usize> = visits.iter().map(Visit::position).collect();
    assert_eq!(taken, BTreeSet::from([0, 1, 2]));
    assert!(pool.visit(7, &[]).is_none(), "all are full");
}

#[test]
fn a_server_that_was_tried_is_not_chosen_again() {
    let pool = pool(&THREE, "");
    assert!((0..9).all(|_| pool.visit(7, &[0, 2]).unwrap().position() == 1));
    assert!(pool.visit(7, &[0, 1, 2]).is_none());
}

#[test]
fn an_ejected_server_is_passed_over_until_it_may_be_asked_again() {
    let pool = pool(&THREE[..2], "ejection: { failures: 2, pause: 1h }");
    pool.failed(0, "a test");
    assert_eq!(positions(&pool, 4), [0, 1, 0, 1], "one failure is none");
    pool.failed(0, "a test");
    assert_eq!(positions(&pool, 4), [1, 1, 1, 1]);
    assert_eq!(pool.servers[0].condition(Instant::now()), Condition::Ejected);
    let later = Instant::now() + std::time::Duration::from_secs(3_601);
    assert_eq!(pool.servers[0].condition(later), Condition::Available);
    pool.succeeded(&pool.servers[0]);
    assert_eq!(positions(&pool, 2).len(), 2);
    assert!(pool.servers[0].is_available(), "a success brings it back");
}

#[test]
fn the_last_available_server_is_not_ejected() {
    let pool = pool(&THREE[..2], "ejection: { failures: 1, pause: 1h }");
    pool.failed(0, "a test");
    (0..9).for_each(|_| pool.failed(1, "a test"));
    assert_eq!(positions(&pool, 3), [1, 1, 1]);
}

#[test]
fn where_no_server_is_healthy_all_are_asked() {
    let pool = pool(&THREE[..2], "health: { unhealthy_after: 1 }");
    let check = pool.settings.health.clone().unwrap();
    pool.servers[0].checked(false, &check);
    assert_eq!(positions(&pool, 4), [1, 1, 1, 1]);
    pool.servers[1].checked(false, &check);
    assert_eq!(positions(&pool, 4), [0, 1, 0, 1], "a request that may fail is better than none");
}

#[test]
fn grpc_goes_by_http2_where_nothing_else_is_said() {
    let grpc = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"))]);
    let json = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    for (server, http, of_grpc, of_json) in [
        ("http://10.0.0.1:80", "auto", Wanted::Http2, Wanted::Http1),
        ("http://10.0.0.1:80", "http1", Wanted::Http1, Wanted::Http1),
        ("http://10.0.0.1:80", "http2", Wanted::Http2, Wanted::Http2),
        ("https://10.0.0.1:80", "auto", Wanted::Agreed, Wanted::Agreed),
        ("https://10.0.0.1:80", "http2", Wanted::Http2, Wanted::Http2),
    ] {
        let tls = if server.starts_with("https") { "tls: { insecure: true }" } else { "" };
        let pool = pool(&[server], &format!("http: {http}, {tls}"));
        let wanted = |headers| pool.wanted(&pool.servers[0], headers);
        assert_eq!((wanted(&grpc), wanted(&json)), (of_grpc, of_json), "{server} {http}");
    }
}

#[test]
fn servers_whose_settings_did_not_change_are_kept_as_they_are() {
    let (metrics, ids) = (metrics(), ModelIds::default());
    let made = |more: &str, previous: Option<&Upstreams>| {
        Upstreams::made(&settings(&THREE, more), &ids, &metrics, previous, None).unwrap()
    };
    let first = made("ejection: { failures: 1, pause: 1h }", None);
    first.pools[0].failed(0, "a test");
    let same = made("ejection: { failures: 1, pause: 1h }", Some(&first));
    assert!(Arc::ptr_eq(&first.pools[0], &same.pools[0]));
    assert!(!same.pools[0].servers[0].is_available(), "what is known of them stays");
    let other = made("retries: 3", Some(&same));
    assert!(!Arc::ptr_eq(&same.pools[0], &other.pools[0]));
    assert!(other.pools[0].servers[0].is_available(), "other settings begin afresh");
}

#[test]
fn gauges_follow_the_servers_and_go_with_them() {
    let metrics = metrics();
    let made = Upstreams::unwatched(&settings(&THREE, ""), &ModelIds::default(), &metrics).unwrap();
    let shows = |line: &str| metrics.encode().contains(line);
    assert!(shows(r#"checkgate_upstream_servers{model="discovered",state="available"} 3"#));
    (0..5).for_each(|_| made.pools[0].failed(1, "a test"));
    made.pools[0].sweep(Instant::now());
    assert!(shows(r#"checkgate_upstream_servers{model="discovered",state="available"} 2"#));
    assert!(shows(r#"checkgate_upstream_servers{model="discovered",state="ejected"} 1"#));
    drop(made);
    assert!(shows(r#"checkgate_upstream_servers{model="discovered",state="available"} 0"#));
    assert!(shows(r#"checkgate_upstream_servers{model="discovered",state="ejected"} 0"#));
}
