//! The program itself: arguments, exit codes, signals, the last will.

use crate::card::LoopCard;
use crate::program;
use crate::site::{self, Site};
use crate::wait;
use piseduce_protocol::boot::BootParameters;
use piseduce_protocol::id::Serial;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The program, with the identity tree at `root`.
pub(crate) fn agent(root: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the program under test is no program of the machine")]
    let mut command = Command::new(env!("CARGO_BIN_EXE_piseduce-agent"));
    command.arg("--root").arg(root).stdin(Stdio::null());
    command
}

/// Exit code and log of an agent that ends by itself.
fn end(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn parameters() -> BootParameters {
    site::parameters(1, "127.0.0.1:1")
}

/// Waits until the child logs a line with `text`.
fn wait_for_line(child: &mut Child, text: &str) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let found = lines.find(|line| line.contains(text));
    assert!(found.is_some(), "the agent ended without logging `{text}`");
    std::thread::spawn(move || lines.for_each(drop));
}

fn terminate(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn an_agent_with_another_nodes_token_ends_with_2_and_says_why() {
    let tree = site::identity_tree(&BootParameters { serial: Serial(1), ..parameters() });
    let (code, log) = end(&mut agent(tree.path()));
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("10000000") && log.contains("command line is for 0000000000000001"), "{log}");
    assert!(!log.contains("0303"), "the token is in the log: {log}");
}

#[test]
fn an_agent_that_does_not_know_itself_ends_with_1_and_wrong_arguments_with_64() {
    let tree = site::identity_tree(&parameters());
    fs::remove_file(tree.path().join("proc/device-tree/serial-number")).unwrap();
    let (code, log) = end(&mut agent(tree.path()));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("serial-number: No such file"), "{log}");
    assert_eq!(end(agent(tree.path()).arg("--no-such-argument")).0, Some(64));
    assert_eq!(end(agent(tree.path()).arg("--help")).0, Some(0));
}

#[test]
fn an_agent_without_a_token_idles_until_it_is_terminated() {
    let tree = site::identity_tree(&parameters());
    fs::write(tree.path().join("proc/cmdline"), "console=tty1 piseduce.site=main\n").unwrap();
    let mut child = agent(tree.path()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut child, "no token");
    assert_eq!(terminate(child), Some(0));
}

#[test]
fn a_terminated_agent_says_goodbye_and_a_killed_one_leaves_its_will() {
    let mut site = Site::new();
    site.end_agent(true);
    let tree = site::identity_tree(&site::parameters(site.broker.port, &site.rig.head.address));
    let card = LoopCard::new(64 << 20);
    let start = || {
        site.forget();
        let mut command = agent(tree.path());
        command.arg("--card").arg(&card.path).args(["--beat-seconds", "1", "--lock-memory"]);
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        site.until("a hello of the program", |heard| heard.hellos() == 1);
        child
    };
    let child = start();
    site.until("a beat of the program", |heard| !heard.beats.is_empty());
    let resident = site.look(|heard| heard.beats[0].resident_kib);
    assert!((1000..64 * 1024).contains(&resident), "{resident} KiB");
    assert_eq!(terminate(child), Some(0));
    let mut child = start();
    // The broker would have published the will of the first before the hello of the second.
    assert_eq!(site.look(|heard| heard.wills), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    site.until("the will", |heard| heard.wills == 1);
}

#[test]
fn a_reboot_ends_a_process_namespace_and_nothing_else() {
    let mut site = Site::new();
    site.end_agent(true);
    let tree = site::identity_tree(&site::parameters(site.broker.port, &site.rig.head.address));
    site.forget();
    let mut child = program::command("unshare")
        .args(["--pid", "--mount", "--fork", "--kill-child=KILL", env!("CARGO_BIN_EXE_piseduce-agent")])
        .arg("--root")
        .arg(tree.path())
        .arg("--card")
        .arg(&site.rig.card.path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    site.until("a hello of the program", |heard| heard.hellos() == 1);
    site.order(9, piseduce_protocol::command::Order::Reboot);
    site.end_of(9);
    wait::until("the end of the namespace", || match child.try_wait().unwrap() {
        Some(_) => Ok(()),
        None => Err("it runs"),
    });
}
