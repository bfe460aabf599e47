//! The HTTP listener's bounds over real sockets, with short times: heads and bodies that do not come, answers that are not
//! taken, connections without a request, crowds from one address and from many.
#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in what they share")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use piseduce_coordinator::http::{Limits, serve};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// An answer that no kernel's buffers hold.
const LARGE_BYTES: usize = 32 << 20;
/// The times of these tests, where not otherwise said.
const SHORT: Duration = Duration::from_millis(600);

fn limits(connections: u32, per_address: u32) -> Limits {
    let long = Duration::from_secs(60);
    Limits {
        head_time: long,
        idle_time: long,
        stall_time: long,
        body_piece_time: long,
        ..Limits::new(connections, per_address)
    }
}

async fn start(limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new()
        .route("/who", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string()))
        .route("/large", get(async || vec![7; LARGE_BYTES]))
        .route("/told", post(async |body: Bytes| body.len().to_string()));
    tokio::spawn(serve(listener, routes, limits));
    address
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("30 s were not enough: {what}"))
}

async fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    within("connecting", socket.connect(to)).await.unwrap()
}

async fn connect(to: SocketAddr) -> TcpStream {
    connect_from([127, 0, 0, 1], to).await
}

/// Everything that comes until the other end closes; a reset is an end, too.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = within("the end of a connection", stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// Asks who asks, on a connection that is kept.
async fn who(stream: &mut TcpStream) -> Option<String> {
    stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = within("an answer", stream.read(&mut buffer)).await.ok().filter(|count| *count > 0)?;
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.contains("127.")
        {
            return head.starts_with("HTTP/1.1 200").then(|| body.to_owned());
        }
        if text.starts_with("HTTP/1.1 503") {
            return None;
        }
    }
}

#[tokio::test]
async fn handlers_know_who_asks() {
    let address = start(limits(10, 10)).await;
    let mut stream = connect_from([127, 0, 0, 7], address).await;
    assert_eq!(who(&mut stream).await.as_deref(), Some("127.0.0.7"));
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let address = start(Limits { head_time: SHORT, ..limits(10, 10) }).await;
    let mut silent = connect(address).await;
    let mut slow = connect(address).await;
    let dribble = async {
        let mut head = b"GET /who HTTP/1.1\r\n".to_vec();
        head.extend_from_slice(&b"x: ".repeat(4000));
        for byte in head {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
        }
        panic!("a head was taken although it did not end");
    };
    within("the slow one to be dropped", dribble).await;
    assert_eq!(rest(&mut silent).await, "");
    let mut kept = connect(address).await;
    assert!(who(&mut kept).await.is_some());
    // The second head on a connection has the same time.
    kept.write_all(b"GET /who").await.unwrap();
    assert_eq!(rest(&mut kept).await, "");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_and_one_with_requests_is_kept() {
    let address = start(Limits { idle_time: SHORT, ..limits(10, 10) }).await;
    let (mut idle, mut busy) = (connect(address).await, connect(address).await);
    assert!(who(&mut idle).await.is_some());
    for _ in 0..12 {
        assert!(who(&mut busy).await.is_some(), "asked within the time");
        tokio::time::sleep(SHORT / 4).await;
    }
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn a_body_that_dribbles_ends_its_request() {
    let address = start(Limits { body_piece_time: SHORT, ..limits(10, 10) }).await;
    for pause in [SHORT / 8, SHORT * 100] {
        let mut stream = connect(address).await;
        stream.write_all(b"POST /told HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nx").await.unwrap();
        let (mut read, mut write) = stream.split();
        let dribble = async {
            loop {
                tokio::time::sleep(pause).await;
                if write.write_all(b"x").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            result = within("an answer", read.read_to_end(&mut answer)) => drop(result),
            () = dribble => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400"), "pauses of {pause:?}: {answer}");
    }
    let mut honest = connect(address).await;
    honest.write_all(b"POST /told HTTP/1.1\r\nhost: x\r\nconnection: close\r\n").await.unwrap();
    honest.write_all(b"content-length: 65536\r\n\r\n").await.unwrap();
    for _ in 0..16 {
        tokio::time::sleep(SHORT / 8).await;
        honest.write_all(&[b'x'; 4096]).await.unwrap();
    }
    assert!(rest(&mut honest).await.ends_with("65536"), "slow, but within the rate");
}

async fn ask_large(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address).await;
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_dropped_and_a_slow_card_gets_all_of_it() {
    let stall_time = Duration::from_secs(2);
    let address = start(Limits { stall_time, ..limits(10, 10) }).await;
    let (mut never, mut slow) = (ask_large(address).await, ask_large(address).await);
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    let mut pauses = 0;
    loop {
        let count = within("more of the answer", slow.read(&mut buffer)).await.unwrap();
        if count == 0 {
            break;
        }
        received += count;
        // Two thirds of what is allowed, as a card of 40 s is of the real time.
        if received > pauses * (12 << 20) {
            pauses += 1;
            tokio::time::sleep(stall_time * 2 / 3).await;
        }
    }
    assert!(received > LARGE_BYTES, "{received} bytes, with the head");
    let mut rest = Vec::new();
    let _ = within("the end", never.read_to_end(&mut rest)).await;
    assert!(rest.len() < LARGE_BYTES, "{} bytes of an answer that was not taken in time", rest.len());
}

#[tokio::test]
async fn a_thousand_connections_from_one_address_leave_another_its_own() {
    let address = start(limits(2_000, 32)).await;
    let mut crowd = Vec::new();
    for _ in 0..1_000 {
        crowd.push(connect(address).await);
    }
    let mut refused = connect(address).await;
    let answer = rest(&mut refused).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("127.0.0.1 has 32 connections open"),
        "{answer}"
    );
    let mut other = connect_from([127, 0, 0, 2], address).await;
    assert_eq!(who(&mut other).await.as_deref(), Some("127.0.0.2"));
    drop(crowd);
    let again = async {
        while who(&mut connect(address).await).await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    within("room for the first address", again).await;
}

#[tokio::test]
async fn crowds_from_many_addresses_make_room_for_who_asks() {
    let address = start(limits(64, 32)).await;
    let mut crowd = Vec::new();
    for last in 1..=4 {
        for _ in 0..32 {
            crowd.push(connect_from([127, 0, 1, last], address).await);
        }
    }
    // Those that are there do nothing, and after a second they may be replaced.
    let served = async {
        loop {
            let mut honest = connect_from([127, 0, 0, 2], address).await;
            if who(&mut honest).await.is_some() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within("an honest client to be served", served).await;
}
