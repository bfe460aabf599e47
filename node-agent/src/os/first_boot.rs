//! What runs on a deployed node: a report of every boot, and the user's script once, with its result.
//!
//! The programs are POSIX shell scripts that run on busybox, dash and bash; they stand beside this file
//! in `first_boot/`. Reports go to the head node over plain HTTP: an image may have no MQTT client, but
//! one of the programs that `post` knows is in all of them.

use piseduce_protocol::bundle::Bundle;

/// The directories that must be there, with their permission bits; root owns them.
pub const DIRECTORIES: [(&str, u32); 5] = [
    ("/usr/lib/piseduce", 0o755),
    ("/etc/systemd/system/multi-user.target.wants", 0o755),
    ("/var/lib/piseduce", 0o700),
    ("/var/lib/piseduce/booted", 0o700),
    ("/var/lib/piseduce/first-boot", 0o700),
];

/// The symbolic links that enable the units, and what they say.
pub const LINKS: [(&str, &str); 2] = [
    ("/etc/systemd/system/multi-user.target.wants/piseduce-booted.service", "../piseduce-booted.service"),
    (
        "/etc/systemd/system/multi-user.target.wants/piseduce-first-boot.service",
        "../piseduce-first-boot.service",
    ),
];

/// Sends a file as an HTTP request, with whatever program the system has.
pub const POST: &str = include_str!("first_boot/post");
/// Reports every boot.
pub const BOOTED: &str = include_str!("first_boot/booted");
/// Runs the user's script once and reports its end.
pub const FIRST_BOOT: &str = include_str!("first_boot/first-boot");

const BOOTED_UNIT: &str = include_str!("first_boot/piseduce-booted.service");
const FIRST_BOOT_UNIT: &str = include_str!("first_boot/piseduce-first-boot.service");

/// A file of the environment, owned by root.
#[derive(Clone, PartialEq, Eq)]
pub struct InstalledFile {
    /// Where it is.
    pub path: &'static str,
    /// What is in it; none when it must not be there.
    pub content: Option<Vec<u8>>,
    /// Its permission bits.
    pub mode: u32,
}

/// The files of a run: programs, units, and what they are told.
pub fn files(bundle: &Bundle) -> Vec<InstalledFile> {
    let file = |path, mode, content: &str| InstalledFile { path, content: Some(content.into()), mode };
    let line = |path, content: &str| file(path, 0o600, &format!("{content}\n"));
    let optional = |path, mode, content: Option<Vec<u8>>| InstalledFile { path, content, mode };
    let seconds = bundle.script_seconds.to_string();
    vec![
        file("/usr/lib/piseduce/post", 0o755, POST),
        file("/usr/lib/piseduce/booted", 0o755, BOOTED),
        file("/usr/lib/piseduce/first-boot", 0o755, FIRST_BOOT),
        file("/etc/systemd/system/piseduce-booted.service", 0o644, BOOTED_UNIT),
        file("/etc/systemd/system/piseduce-first-boot.service", 0o644, FIRST_BOOT_UNIT),
        line("/var/lib/piseduce/booted/url", &bundle.first_boot_url),
        line("/var/lib/piseduce/booted/token", &bundle.booted_token),
        line("/var/lib/piseduce/booted/seconds", &seconds),
        line("/var/lib/piseduce/first-boot/url", &bundle.first_boot_url),
        line("/var/lib/piseduce/first-boot/token", &bundle.first_boot_token),
        line("/var/lib/piseduce/first-boot/seconds", &seconds),
        optional("/var/lib/piseduce/first-boot/script", 0o700, bundle.script.clone()),
        optional("/var/lib/piseduce/first-boot/rerun", 0o600, bundle.rerun_script.then(Vec::new)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        Bundle {
            host_name: "pi-1".into(),
            password_hash: None,
            authorized_keys: vec![],
            host_keys: vec![],
            script: Some(b"#!/bin/sh\n".to_vec()),
            rerun_script: false,
            script_seconds: 60,
            first_boot_url: "http://10.0.0.1:8070/first-boot/v1/1/1".into(),
            first_boot_token: "token".into(),
            booted_token: "boots".into(),
        }
    }

    #[test]
    fn every_file_lies_in_a_directory_that_is_made_and_secrets_are_for_root_alone() {
        for file in files(&bundle()) {
            let (directory, _) = file.path.rsplit_once('/').unwrap();
            let made = DIRECTORIES.iter().any(|(path, _)| *path == directory);
            assert!(made || directory == "/etc/systemd/system", "{}", file.path);
            let is_secret = file.path.starts_with("/var/lib");
            assert_eq!(is_secret, file.mode & 0o077 == 0, "{}", file.path);
        }
    }

    #[test]
    fn a_script_and_its_rerun_are_there_only_when_the_run_has_them() {
        let content = |bundle: &Bundle, name: &str| {
            let path = format!("/var/lib/piseduce/first-boot/{name}");
            files(bundle).into_iter().find(|file| file.path == path).unwrap().content
        };
        assert_eq!(content(&bundle(), "script").as_deref(), Some(b"#!/bin/sh\n".as_slice()));
        assert_eq!(content(&bundle(), "rerun"), None);
        let other = Bundle { script: None, rerun_script: true, ..bundle() };
        assert_eq!((content(&other, "script"), content(&other, "rerun")), (None, Some(vec![])));
    }

    #[test]
    fn the_units_start_what_is_installed() {
        for (unit, program) in [(BOOTED_UNIT, "booted"), (FIRST_BOOT_UNIT, "first-boot")] {
            assert!(unit.contains(&format!("\nExecStart=/usr/lib/piseduce/{program}\n")), "{unit}");
        }
    }
}
