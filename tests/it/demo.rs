//! `make demo` with a small image: it says how it ended, and leaves nothing behind however it ends.

use piseduce_tests::images;
use piseduce_tests::process::{command, program, run};
use piseduce_tests::wait::wait_for;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Directory names of demos begin so.
const PREFIX: &str = "piseduce-demo-";

/// A demo whose files are in `directory`.
fn demo(directory: &Path) -> Command {
    let mut demo = command(program("piseduce-demo"));
    demo.env("IMAGE", images::story().unwrap()).env("NODES", "2").env("TMPDIR", directory);
    demo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    demo
}

/// What a demo in `directory` has left: loop devices, processes, directories.
fn residue(directory: &Path) -> Vec<String> {
    let marker = directory.join(PREFIX).to_string_lossy().into_owned();
    let loops = run("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"]).unwrap();
    let mut left: Vec<String> = loops.lines().filter(|file| file.contains(&marker)).map(Into::into).collect();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let command = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&marker) {
            left.push(command);
        }
    }
    for entry in std::fs::read_dir(directory).unwrap() {
        left.push(entry.unwrap().path().display().to_string());
    }
    left
}

fn wait_until_nodes_work(directory: &Path) {
    let traces = || {
        let demos = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let traces =
            demos.map(|demo| std::fs::read_to_string(demo.join("rack/pi-2/trace.log")).unwrap_or_default());
        traces.collect::<String>()
    };
    wait_for("the nodes to work", 60.0, traces, |trace| trace.contains("agent started"));
}

fn end(mut demo: Child, signal: &str) {
    run("kill", &[signal, &demo.id().to_string()]).unwrap();
    wait_for("the demo to end", 10.0, || demo.try_wait().unwrap(), Option::is_some);
}

#[test]
fn the_demo_says_how_it_ended_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = demo(directory.path()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().last(), Some("demo: 2 of 2 nodes deployed"), "{said}");
    assert!(said.contains("wait_resizing") && said.contains("script said: hello from pi-2"), "{said}");
    wait_for("everything to be gone", 10.0, || residue(directory.path()), Vec::is_empty);
}

#[test]
fn an_interrupted_demo_leaves_nothing_and_a_killed_one_is_cleaned_up_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let first = demo(directory.path()).spawn().unwrap();
    wait_until_nodes_work(directory.path());
    end(first, "-TERM");
    wait_for("everything to be gone", 10.0, || residue(directory.path()), Vec::is_empty);

    let second = demo(directory.path()).spawn().unwrap();
    wait_until_nodes_work(directory.path());
    end(second, "-KILL");
    let only_files = |left: &Vec<String>| left.iter().all(|left| Path::new(left).is_dir());
    let left = wait_for("boards and loop devices to be gone", 10.0, || residue(directory.path()), only_files);
    assert_eq!(left.len(), 1, "its directory stays: {left:?}");

    assert!(demo(directory.path()).output().unwrap().status.success());
    wait_for("everything to be gone", 10.0, || residue(directory.path()), Vec::is_empty);
}
