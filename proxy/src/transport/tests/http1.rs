//! HTTP/1.1.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test(start_paused = true)]
async fn requests_are_answered_one_after_the_other_on_one_connection() {
    let server = Server::plain();
    let mut connected = server.connect();
    for word in ["one", "two", "three"] {
        connected.say(&post("/", word)).await;
        connected.hear(&format!("content-length: {}\r\n\r\n{word}", word.len())).await;
    }
    assert_eq!(server.seen(), ["/ one", "/ two", "/ three"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_keeps_its_connection_once_its_question_has_come() {
    let server = Server::plain();
    let mut connected = server.connect();
    let chunked =
        "POST /refused HTTP/1.1\r\nHost: models\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n";
    for question in [post("/refused", "a question"), chunked.to_owned(), post("/refused", "")] {
        // Many clients write the head and the body one after the other.
        let (head, body) = question.split_once("\r\n\r\n").unwrap();
        connected.say(&format!("{head}\r\n\r\n")).await;
        sleep(Duration::from_millis(50)).await;
        connected.say(body).await;
        let answer = connected.hear("\r\n\r\nno").await;
        assert!(!answer.contains("connection: close"), "{question:?} ended its connection: {answer}");
    }
    connected.say(&post("/", "again")).await;
    connected.hear("\r\n\r\nagain").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_its_question_is_read_says_that_it_is_the_last() {
    let waits = "POST /refused HTTP/1.1\r\nHost: models\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    let long = "POST /refused HTTP/1.1\r\nHost: models\r\nContent-Length: 99999999\r\n\r\n";
    let stuck = "POST /refused HTTP/1.1\r\nHost: models\r\nContent-Length: 9\r\n\r\none";
    for question in [waits, long, stuck] {
        let server = Server::plain();
        let mut connected = server.connect();
        connected.say(question).await;
        let (heard, seconds) = connected.hear_all().await;
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{question:?} got {heard:?}");
        assert!(
            heard.contains("connection: close\r\n") && heard.ends_with("\r\n\r\nno"),
            "{question:?}: {heard}"
        );
        assert!(seconds <= 2, "{question:?} was waited for: {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_of_as_many_lines_as_may_be_is_answered() {
    let mut connected = Server::plain().connect();
    let lines = "X: a\r\n".repeat(rules().bounds.header_lines - 2);
    connected.say(&format!("POST / HTTP/1.1\r\nHost: models\r\nContent-Length: 1\r\n{lines}\r\na")).await;
    assert!(connected.hear("\r\n\r\na").await.starts_with("HTTP/1.1 200"), "the bound itself is allowed");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_read_to_its_end_does_not_have_its_connection_polled_again() {
    let server = Server::plain();
    let (client, stream) = duplex(PIPE_BYTES);
    let (app, polls) = (Arc::clone(&server.app), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&polls);
    let served = tokio::spawn(async move {
        let mut served = pin!(app.serve(Socket::Memory(stream), None));
        poll_fn(|context| {
            counted.fetch_add(1, Ordering::Relaxed);
            served.as_mut().poll(context)
        })
        .await;
    });
    let mut connected = Connected { client, served, since: Instant::now() };
    let (mut first, mut second) = (0, 0);
    for word in ["one", "two"] {
        connected.say(&post("/inline", word)).await;
        connected.hear(&format!("\r\n\r\n{word}")).await;
        // Simulated time passes only once nothing is left to do.
        sleep(Duration::from_millis(1)).await;
        second = polls.load(Ordering::Relaxed) - first;
        first += second;
    }
    assert_eq!(second, 1, "polls of the second exchange, whose answer needs nothing from elsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_question_in_pieces_comes_whole_while_its_answer_is_made_in_the_same_task() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say("POST /inline HTTP/1.1\r\nHost: models\r\nContent-Length: 9\r\n\r\none").await;
    for piece in ["two", "six"] {
        sleep(Duration::from_secs(1)).await;
        connected.say(piece).await;
    }
    connected.hear("\r\n\r\nonetwosix").await;
    connected.say("POST /inline HTTP/1.1\r\nHost: models\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    connected.say("3\r\none\r\n3\r\ntwo\r\n").await;
    sleep(Duration::from_secs(1)).await;
    connected.say("0\r\n\r\n").await;
    connected.hear("\r\n\r\nonetwo").await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_whole_in_time_gets_408() {
    let server = Server::plain();
    let mut connected = server.connect();
    for line in ["POST / HTTP/1.1\r\n", "Host: models\r\n", "X: y\r\n"] {
        connected.say(line).await;
        sleep(Duration::from_secs(3)).await;
    }
    let (heard, seconds) = connected.hear_all().await;
    assert!(heard.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{heard}");
    assert_eq!((seconds, server.rejected(Rejected::HeadTimeout)), (10, 1));
}

#[tokio::test(start_paused = true)]
async fn a_later_head_has_its_own_deadline_from_its_first_byte() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say(&post("/", "one")).await;
    connected.hear("one").await;
    sleep(Duration::from_secs(50)).await;
    connected.say("GET / HTTP/1.1\r\n").await;
    let (heard, seconds) = connected.hear_all().await;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    assert_eq!((seconds, server.rejected(Rejected::HeadTimeout)), (60, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_is_told_nothing() {
    let server = Server::plain();
    let (heard, seconds) = server.connect().hear_all().await;
    assert_eq!((heard.as_str(), seconds), ("", 10), "before the first request");
    assert_eq!(server.rejected(Rejected::HeadTimeout), 1);
    let mut connected = server.connect();
    connected.say(&post("/", "one")).await;
    connected.hear("one").await;
    let (heard, seconds) = connected.hear_all().await;
    assert_eq!((heard.as_str(), seconds), ("", 60), "after it");
    assert_eq!(server.rejected(Rejected::KeepAlive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_model_may_take_its_time() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say(&post("/slow", "one")).await;
    connected.hear("late").await;
    connected.say(&post("/", "two")).await;
    connected.hear("two").await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_cut_and_never_made_to_look_whole() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say("POST / HTTP/1.1\r\nHost: models\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..9 {
        connected.say("1\r\nx\r\n").await;
        sleep(Duration::from_secs(1)).await;
    }
    let (heard, seconds) = connected.hear_all().await;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    assert_eq!((seconds, server.rejected(Rejected::BodyRate)), (10, 1));
    assert_eq!(server.seen(), ["/ (cut)"], "whoever reads the body must not take it for whole");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_keeps_the_pace_may_take_as_long_as_it_needs() {
    let server = Server::plain();
    let mut connected = server.connect();
    let body = "x".repeat(30_000);
    connected.say(&format!("POST / HTTP/1.1\r\nHost: m\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    for piece in body.as_bytes().chunks(300) {
        connected.client.write_all(piece).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    connected.hear("\r\n\r\n").await;
    assert_eq!(server.seen(), [format!("/ {body}")]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say(&post("/endless", "")).await;
    connected.served.await.unwrap();
    assert_eq!((connected.since.elapsed().as_secs(), server.rejected(Rejected::AnswerRate)), (10, 1));
    assert_eq!(*server.app.handler.open.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unclean_head_gets_its_status_and_its_reason() {
    for (head, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", "400 ", Refused::HostMissing),
        ("GET / HTTP/1.1\nHost: m\n\n", "400 ", Refused::BareLineFeed),
        (
            "GET / HTTP/1.1\r\nHost: m\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
            "400 ",
            Refused::Upgrade,
        ),
        (
            "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400 ",
            Refused::TwoLengths,
        ),
        (
            &format!("GET / HTTP/1.1\r\nHost: m\r\nX: {}\r\n\r\n", "y".repeat(4 << 10)),
            "431 ",
            Refused::HeadTooLarge,
        ),
        (
            &format!("GET / HTTP/1.1\r\nHost: m\r\n{}\r\n", "X: y\r\n".repeat(16)),
            "431 ",
            Refused::TooManyLines,
        ),
        ("PRI * HTTP/2.0\r\n\r\nnot the preface", "400 ", Refused::Method),
    ] {
        let server = Server::plain();
        let mut connected = server.connect();
        connected.say(head).await;
        let (heard, seconds) = connected.hear_all().await;
        let told = heard.split_once(' ').map_or("", |(_, rest)| rest);
        let refused = Refused::ALL.iter().filter(|reason| server.rejected(Rejected::Screen(**reason)) > 0);
        assert_eq!(refused.copied().collect::<Vec<_>>().first(), Some(&reason), "{head:?}: {heard}");
        assert!(told.starts_with(status), "{head:?}: {heard}");
        assert!(heard.contains(&format!("\"reason\":\"{}\"", reason.as_str())), "{heard}");
        assert!(seconds <= 1, "{head:?} was answered after {seconds} s");
        assert!(server.seen().is_empty(), "{head:?} reached the handler");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unclean_request_behind_a_clean_one_waits_for_its_answer() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say(&format!("{}GET / HTTP/1.1\r\nHost : m\r\n\r\n", post("/slow", "one"))).await;
    let (heard, _) = connected.hear_all().await;
    let (first, second) = heard.split_once("late").unwrap_or_else(|| panic!("{heard}"));
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    assert!(second.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{heard}");
    assert_eq!(server.seen(), ["/slow one"]);
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_a_body_ends_its_exchange_at_once() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say("POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await;
    sleep(Duration::from_secs(1)).await;
    connected.say("0x3\r\ntwo\r\n0\r\n\r\n").await;
    let (heard, seconds) = connected.hear_all().await;
    assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
    assert!(seconds <= 2, "it took {seconds} s");
    assert_eq!(server.seen(), ["/ (cut)"], "whoever reads the body must not take it for whole");
}

#[tokio::test(start_paused = true)]
async fn a_fault_behind_a_begun_answer_cuts_it() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say(&format!("{}GET / HTTP/1.1\r\nHost : m\r\n\r\n", post("/endless", "one"))).await;
    connected.hear("\r\n\r\n").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.rejected(Rejected::Screen(Refused::SpaceBeforeColon)), 0, "the answer is not over");
    drop(connected.client);
    connected.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_expects_100_hears_it_before_it_sends() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say("POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(connected.hear("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    connected.say("one").await;
    connected.hear("\r\n\r\none").await;
}

#[tokio::test(start_paused = true)]
async fn an_old_client_is_answered_and_closed() {
    let server = Server::plain();
    let mut connected = server.connect();
    connected.say("GET / HTTP/1.0\r\n\r\n").await;
    let (heard, seconds) = connected.hear_all().await;
    assert!(heard.starts_with("HTTP/1.0 200 OK\r\n"), "{heard}");
    assert_eq!(seconds, 0, "HTTP/1.0 keeps no connection unless it is asked to");
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_open_requests_finish_and_closes_idle_connections() {
    let server = Server::plain();
    let (mut idle, mut busy, silent) = (server.connect(), server.connect(), server.connect());
    idle.say(&post("/", "one")).await;
    idle.hear("one").await;
    busy.say(&post("/slow", "two")).await;
    sleep(Duration::from_secs(1)).await;
    server.drain.send_replace(true);
    assert_eq!(idle.hear_all().await, (String::new(), 1));
    assert_eq!(silent.hear_all().await, (String::new(), 1));
    let (heard, seconds) = busy.hear_all().await;
    assert!(heard.ends_with("late"), "{heard}");
    assert_eq!(seconds, 30);
}
