//! A power cut at the other end of a cable: nothing comes any more, not even the end of the connection. Gate and board
//! have a network namespace each, which end with the test, however it ends.

use crate::bench::{Bench, SERIAL, agent_with_will, introduced, program, topic, within};
use crate::liveness::{TICK, head};
use crate::raw::Raw;
use piseduce_protocol::topic::Topic;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::thread;
use tokio::time::interval;

/// A network namespace, held by a process that sleeps in it.
struct Namespace(Child);

impl Namespace {
    fn new() -> Namespace {
        let mut holder = program("setpriv");
        holder.args(["--pdeathsig", "KILL", "--", "unshare", "--net", "--", "sleep", "infinity"]);
        let holder = holder.stdin(Stdio::null()).spawn().expect("setpriv is in Debian's package util-linux");
        let namespace = Namespace(holder);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        // Who is not root may not have one; the process ends then, and its link cannot be read any more.
        while fs::read_link(namespace.path()).expect("this test needs root for network namespaces") == own {
            thread::yield_now();
        }
        namespace
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// Runs `ip` in the namespace.
    fn ip(&self, arguments: &str) {
        let mut ip = program("nsenter");
        ip.arg(format!("--net={}", self.path())).arg("ip").args(arguments.split(' '));
        let output = ip.output().expect("nsenter is in Debian's package util-linux");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments} (package iproute2): {said}");
    }

    /// Runs `work` in a thread of its own inside the namespace. The sockets that it makes stay there.
    fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(self.path()).unwrap();
        let inside = thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // One that has ended by itself is gone all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A head and a board at the two ends of a cable: 10.99.0.1 and 10.99.0.2.
fn cable() -> (Namespace, Namespace) {
    let (head, board) = (Namespace::new(), Namespace::new());
    head.ip(&format!("link add cable type veth peer name cable netns {}", board.0.id()));
    for (end, address) in [(&head, "10.99.0.1/24"), (&board, "10.99.0.2/24")] {
        end.ip(&format!("address add {address} dev cable"));
        end.ip("link set lo up");
        end.ip("link set cable up");
    }
    (head, board)
}

#[test]
fn a_power_cut_is_seen_within_15_s_while_messages_flow() {
    let (head, board) = cable();
    head.within(move || {
        // One thread, so that every socket of the gate is made in this namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(cut(&board));
    });
}

async fn cut(board: &Namespace) {
    let bench = Bench::with(|settings| settings.listen = "10.99.0.1:0".parse().unwrap()).await;
    let address = bench.gate.local_addr();
    let from_board = || Raw::over(board.within(move || TcpStream::connect(address).unwrap()));
    let mut head = head(&bench).await;
    // As long as an agent's.
    let connect = agent_with_will().keep_alive(5);
    let (mut agent, code) = introduced(from_board(), &connect).await;
    assert_eq!(code, 0);
    let command = topic(&Topic::Command(SERIAL));
    agent.subscribe(&[(&command, 0)]).await;
    head.publish(&command, b"on", false).await;
    assert_eq!(agent.message().await.unwrap().payload, b"on");

    board.ip("link set cable down");
    let (mut ticks, mut count) = (interval(TICK), 0);
    let flow = async {
        while !head.has_message() {
            ticks.tick().await;
            head.publish(&command, b"x", false).await;
            count += 1;
        }
    };
    within("the last will of the board", flow).await;
    assert_eq!(head.message().await.unwrap().payload, b"lost");
    assert!(count > 20, "only {count} messages flowed until then");
    // Who was cut off holds no place any more.
    board.ip("link set cable up");
    let (mut next, code) = introduced(from_board(), &connect).await;
    assert_eq!(code, 0);
    next.is_quiet().await;
}
