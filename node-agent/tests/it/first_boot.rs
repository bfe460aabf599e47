//! The scripts of the first boot, run for real: by every shell and with every poster that this machine has.

use crate::head::{Head, Posted};
use crate::program;
use crate::rig;
use crate::wait;
use piseduce_agent::os::first_boot;
use piseduce_protocol::bundle::Bundle;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// Programs that the scripts use besides a poster; `timeout` where it is present.
const BASICS: [&str; 13] =
    ["cat", "wc", "sleep", "sync", "tail", "rm", "mv", "od", "chmod", "timeout", "env", "uname", "seq"];

/// A booted system: a directory that the scripts take for `/`, and a directory of programs.
struct Booted {
    prefix: TempDir,
    programs: TempDir,
    shell: &'static str,
}

impl Booted {
    /// A system with the run's files, whose shell is `shell` and whose posters are `posters`.
    fn new(bundle: &Bundle, shell: &'static str, posters: &[&str]) -> Self {
        let booted = Booted { prefix: TempDir::new().unwrap(), programs: TempDir::new().unwrap(), shell };
        for (directory, _) in first_boot::DIRECTORIES {
            fs::create_dir_all(booted.path(directory)).unwrap();
        }
        for file in first_boot::files(bundle) {
            let Some(content) = file.content else { continue };
            let path = booted.path(file.path);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).unwrap();
        }
        for (path, target) in first_boot::LINKS {
            symlink(target, booted.path(path)).unwrap();
        }
        for name in BASICS.iter().chain(posters) {
            booted.install(name);
        }
        booted
    }

    fn install(&self, name: &str) {
        // busybox takes the name that it is called by for the program that it shall be.
        let (name, source) = name.split_once('=').unwrap_or((name, name));
        let source = program::find(source).unwrap_or_else(|| panic!("this test needs the program {source}"));
        symlink(source, self.programs.path().join(name)).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.prefix.path().join(path.trim_start_matches('/'))
    }

    fn start(&self, script: &str) -> Child {
        let mut words = self.shell.split(' ');
        // The shell stands outside of the programs that the scripts find: bash is a poster itself.
        let mut command = program::command(words.next().unwrap());
        command.args(words).arg(self.path("/usr/lib/piseduce").join(script));
        command.env_clear().env("PATH", self.programs.path()).env("PISEDUCE_PREFIX", self.prefix.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn run(&self, script: &str) {
        assert!(self.start(script).wait().unwrap().success(), "{script} with {}", self.shell);
    }

    fn is_cleaned_up(&self) -> bool {
        let gone = ["/var/lib/piseduce/first-boot", "/usr/lib/piseduce/first-boot"];
        let unit = "/etc/systemd/system/piseduce-first-boot.service";
        let link = self.path("/etc/systemd/system/multi-user.target.wants/piseduce-first-boot.service");
        gone.iter().chain([&unit]).all(|path| !self.path(path).exists())
            && link.symlink_metadata().is_err()
            && self.path("/usr/lib/piseduce/booted").exists()
    }
}

fn bundle(head: &Head, script: &str) -> Bundle {
    Bundle { script: Some(script.into()), ..rig::bundle(head) }
}

/// Events and bodies of what was posted.
fn posted(head: &Head) -> Vec<(String, String)> {
    let short = |Posted { path, body }: Posted| {
        let event = path.strip_prefix("/first-boot/v1/7/2/").unwrap_or(&path).to_owned();
        (event, String::from_utf8_lossy(&body).into_owned())
    };
    head.posted().into_iter().map(short).collect()
}

fn pair(event: &str, body: &str) -> (String, String) {
    (event.to_owned(), body.to_owned())
}

#[test]
fn every_shell_and_every_poster_reports_a_boot_and_a_script() {
    let posters: [&[&str]; 7] =
        [&["curl"], &["wget"], &["wget=busybox"], &["busybox"], &["python3"], &["perl"], &["bash"]];
    for shell in ["dash", "bash --posix", "busybox sh"] {
        for poster in posters {
            let head = Head::new();
            let script = "#!/bin/sh\necho out; echo err >&2; umask; pwd; exit 3\n";
            let booted = Booted::new(&bundle(&head, script), shell, poster);
            let mode = booted.path("/proc/device-tree/chosen/bootloader/boot-mode");
            fs::create_dir_all(mode.parent().unwrap()).unwrap();
            fs::write(mode, [0, 0, 0, 1]).unwrap();
            booted.run("booted");
            booted.run("first-boot");
            let expected = [
                pair("booted", "booted-token\nboot-mode=1\n"),
                pair("started", "first-boot-token\n"),
                pair("finished/3", "first-boot-token\nout\nerr\n0022\n/\n"),
            ];
            assert_eq!(posted(&head), expected, "{shell} with {poster:?}");
            assert!(booted.is_cleaned_up(), "{shell} with {poster:?}");
        }
    }
}

#[test]
fn a_post_succeeds_with_2xx_alone_and_is_tried_again() {
    for poster in ["curl", "wget", "wget=busybox", "busybox", "python3", "perl", "bash"] {
        let head = Head::new();
        let booted = Booted::new(&bundle(&head, ""), "dash", &[poster]);
        let url = format!("http://{}/x", head.address);
        let file = booted.path("/usr/lib/piseduce/post").display().to_string();
        let post = || {
            let mut command = program::command("dash");
            command.args([&file, &url, &file]).env_clear().env("PATH", booted.programs.path());
            // A proxy that is not there must not be asked.
            command.env("http_proxy", "http://127.0.0.1:1");
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        };
        for status in [302, 404, 500] {
            head.answer_next(&[status]);
            assert!(!post(), "{poster} with {status}");
        }
        head.answer_next(&[200]);
        assert!(post() && post(), "{poster}");
        assert_eq!(head.posted()[0].body, first_boot::POST.as_bytes(), "{poster}");
    }
    let head = Head::new();
    let booted = Booted::new(&bundle(&head, ""), "dash", &["curl"]);
    head.answer_next(&[503]);
    booted.run("booted");
    assert_eq!(posted(&head), [pair("booted", "booted-token\n")]);
}

#[test]
fn a_script_runs_once_and_a_cut_inside_it_is_told() {
    let head = Head::new();
    let booted = Booted::new(&bundle(&head, "#!/bin/sh\necho never\n"), "dash", &["curl"]);
    fs::write(booted.path("/var/lib/piseduce/first-boot/started"), "").unwrap();
    booted.run("first-boot");
    assert_eq!(posted(&head), [pair("interrupted", "first-boot-token\n")]);
    assert!(booted.is_cleaned_up());
}

#[test]
fn a_script_that_may_rerun_runs_again_and_one_that_ended_is_only_told_again() {
    let head = Head::new();
    let rerun = Bundle { rerun_script: true, ..bundle(&head, "#!/bin/sh\necho again\n") };
    let booted = Booted::new(&rerun, "busybox sh", &["curl"]);
    fs::write(booted.path("/var/lib/piseduce/first-boot/started"), "").unwrap();
    booted.run("first-boot");
    assert_eq!(posted(&head)[1], pair("finished/0", "first-boot-token\nagain\n"));

    let head = Head::new();
    let booted = Booted::new(&bundle(&head, "#!/bin/sh\necho never\n"), "dash", &["curl"]);
    for (name, content) in [("started", ""), ("code", "5\n"), ("output", "kept\n")] {
        fs::write(booted.path("/var/lib/piseduce/first-boot").join(name), content).unwrap();
    }
    booted.run("first-boot");
    assert_eq!(posted(&head), [pair("finished/5", "first-boot-token\nkept\n")]);
    assert!(booted.is_cleaned_up());
}

#[test]
fn a_run_without_a_script_ends_well_and_long_output_keeps_its_end() {
    let head = Head::new();
    let none = Bundle { script: None, ..rig::bundle(&head) };
    Booted::new(&none, "dash", &["curl"]).run("first-boot");
    assert_eq!(posted(&head)[1], pair("finished/0", "first-boot-token\n"));

    let head = Head::new();
    Booted::new(&bundle(&head, "#!/bin/sh\nseq 1 100000\n"), "dash", &["curl"]).run("first-boot");
    let body = &posted(&head)[1].1;
    assert_eq!(body.len(), "first-boot-token\n".len() + 65_536);
    assert!(body.ends_with("99999\n100000\n"));
}

#[test]
fn a_script_that_takes_too_long_ends_with_124_whatever_the_timeout_program() {
    for timeout in ["timeout", "timeout=busybox"] {
        let head = Head::new();
        let short = Bundle { script_seconds: 1, ..bundle(&head, "#!/bin/sh\necho begun\nexec sleep 30\n") };
        let booted = Booted::new(&short, "dash", &["curl"]);
        fs::remove_file(booted.programs.path().join("timeout")).unwrap();
        booted.install(timeout);
        booted.run("first-boot");
        assert_eq!(posted(&head)[1], pair("finished/124", "first-boot-token\nbegun\n"), "{timeout}");
    }
}

#[test]
fn a_power_cut_inside_the_script_runs_it_no_second_time() {
    let head = Head::new();
    let booted = Booted::new(&bundle(&head, "#!/bin/sh\nsleep 60\n"), "dash", &["curl"]);
    let mut child = booted.start("first-boot");
    wait::until("the script", || match posted(&head).as_slice() {
        [] => Err("nothing was posted"),
        _ => Ok(()),
    });
    child.kill().unwrap();
    child.wait().unwrap();
    booted.run("first-boot");
    assert_eq!(posted(&head)[1], pair("interrupted", "first-boot-token\n"));
}
