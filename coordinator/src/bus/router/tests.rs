//! Lines that come and go, and a router that dies.

use super::*;
use crate::bus::acl::router_filter;
use rumqttd::protocol::{Disconnect, DisconnectReasonCode, Publish, Subscribe};

const EVERYTHING: &str = "piseduce/main/#";

/// So many that the router is busy for some milliseconds with handing them over.
const MESSAGES: usize = 20_000;

fn start(clients_max: usize) -> Router {
    Router::start(&Site::new("main").unwrap(), clients_max).unwrap()
}

async fn subscribe(line: &mut Line) {
    let filters = vec![router_filter(EVERYTHING)];
    line.send(Packet::Subscribe(Subscribe { pkid: 1, filters }, None)).await.unwrap();
}

async fn publish_retained(line: &mut Line) {
    for number in 0..MESSAGES {
        let publish = Publish::new(format!("piseduce/main/{number}"), "x".into(), true);
        line.send(Packet::Publish(publish, None)).await.unwrap();
    }
}

async fn opened(router: &Router) -> Line {
    let opening = timeout(Duration::from_secs(10), router.open());
    opening.await.expect("the router sleeps").expect("the router has died")
}

#[tokio::test]
async fn a_line_that_is_done_with_is_empty_for_the_next_one() {
    let router = start(1);
    let mut other = opened(&router).await;
    publish_retained(&mut other).await;
    for taken in [0, 1, 200, MESSAGES] {
        let mut line = opened(&router).await;
        subscribe(&mut line).await;
        for _suback_and_messages in 0..taken {
            line.next().await.unwrap();
        }
        drop(line);
        let made = router.lines.made.load(Ordering::Relaxed);
        let mut lines: Vec<Line> = Vec::new();
        while lines.len() < OWN_LINES {
            lines.push(opened(&router).await);
        }
        for line in &mut lines {
            line.send(Packet::PingReq(PingReq)).await.unwrap();
            assert!(matches!(line.next().await.unwrap(), Packet::PingResp(_)), "{taken} were taken");
        }
        assert!(made >= 2 && router.lines.made.load(Ordering::Relaxed) <= 1 + OWN_LINES);
    }
}

/// What put the router to sleep for ever: connections that ended while others opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_close_while_others_open_and_nobody_waits_for_long() {
    const AT_ONCE: usize = 500;
    const ROUNDS: usize = 6;
    let router = start(2 * AT_ONCE);
    let publishing = opened(&router).await;
    let publisher = publishing.sender();
    let churn = |number: usize| {
        let (router, publisher) = (router.clone(), publisher.clone());
        async move {
            for round in 0..ROUNDS {
                let mut line = opened(&router).await;
                subscribe(&mut line).await;
                let topic = format!("piseduce/main/{}", number % 50);
                let publish = Publish::new(topic, "x".into(), round % 2 == 0);
                publisher.send(Packet::Publish(publish, None)).await.unwrap();
                if number % 2 == round % 2 {
                    assert!(line.next().await.is_ok());
                }
            }
        }
    };
    let clients: Vec<_> = (0..2 * AT_ONCE).map(|number| tokio::spawn(churn(number))).collect();
    for client in clients {
        client.await.unwrap();
    }
    assert!(router.lines.made.load(Ordering::Relaxed) <= 2 * AT_ONCE + OWN_LINES);
}

#[tokio::test]
async fn the_death_of_the_router_is_noticed_by_everybody() {
    let router = start(10);
    let watch = tokio::spawn({
        let router = router.clone();
        async move { router.watch(Duration::from_millis(1), Duration::from_secs(10)).await }
    });
    let mut idle = opened(&router).await;
    let mut line = opened(&router).await;
    // This is how it dies: woken by a connection that it has removed.
    line.send(Packet::Disconnect(
        Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection },
        None,
    ))
    .await
    .unwrap();
    while line.ends().from_router.wake().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(idle.next().await, Err(RouterGone));
    watch.await.unwrap();
    assert_eq!(router.open().await.err(), Some(RouterGone));
    assert_eq!(idle.send(Packet::PingReq(PingReq)).await, Err(RouterGone));
}
