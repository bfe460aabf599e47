//! What programs share that show PiSeduce at work: a directory that is removed in the end, Ctrl-C that ends everything, and a
//! terminal on which people see which commands were run.

use crate::coordinator::Coordinator;
use crate::wait;
use anyhow::Context as _;
use piseduce_coordinator::{print, signal};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A show under way.
pub struct Show {
    prefix: &'static str,
    user: &'static str,
    /// Whether Ctrl-C is what ends a show that is kept running.
    kept: Arc<AtomicBool>,
    /// Whether it came.
    stopped: Arc<AtomicBool>,
}

impl Show {
    /// Begins one whose directories begin with `prefix` and whose commands are `user`'s. Ctrl-C and SIGTERM end the program from
    /// now on; every child dies with it.
    pub fn begin(prefix: &'static str, user: &'static str) -> Show {
        let show = Show {
            prefix,
            user,
            kept: Arc::new(AtomicBool::new(false)),
            stopped: Arc::new(AtomicBool::new(false)),
        };
        let (kept, stopped) = (show.kept.clone(), show.stopped.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(signal::stop());
            if kept.load(Ordering::SeqCst) {
                stopped.store(true, Ordering::SeqCst);
                return;
            }
            print::error("interrupted", "");
            remove_directories(prefix);
            std::process::exit(130);
        });
        remove_directories(prefix);
        show
    }

    /// A directory that [`Show::end`] removes.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn directory(&self) -> anyhow::Result<PathBuf> {
        Ok(tempfile::Builder::new().prefix(self.prefix).tempdir()?.keep())
    }

    /// Shows a command line and runs it with this terminal; returns whether it ended well.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, coordinator: &Coordinator, arguments: &[&str]) -> anyhow::Result<bool> {
        print::line(format!("$ piseduce {}", arguments.join(" ")));
        let status =
            coordinator.cli_command(self.user, arguments).status().context("piseduce cannot be started")?;
        Ok(status.success())
    }

    /// Waits for Ctrl-C or SIGTERM.
    pub fn wait_for_stop(&self) {
        self.kept.store(true, Ordering::SeqCst);
        while !self.stopped.load(Ordering::SeqCst) {
            wait::pause();
        }
    }

    /// Removes what is left.
    pub fn end(&self) {
        remove_directories(self.prefix);
    }
}

/// Whether everything is to stay up in the end: `KEEP=1`.
pub fn wants_to_keep() -> bool {
    std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0")
}

fn remove_directories(prefix: &str) {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
        // What cannot be removed now is tried again by the next one.
        let _ = fs::remove_dir_all(entry.path());
    }
}
