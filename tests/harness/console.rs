//! The UART of a board that has none: one end of a pseudo terminal, in the words of a story.

use rustix::pty::{self, OpenptFlags};
use rustix::termios::{self, OptionalActions};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

/// A board's end of a serial line. The line is cut when it is dropped.
pub struct Uart {
    near: OwnedFd,
    /// Held open, or the near end would fail while nobody has the far one open.
    far: File,
}

impl Uart {
    /// Plugs a new line in: its other end is found at `link`.
    ///
    /// # Errors
    /// When there is no pseudo terminal, or the link cannot be made.
    pub fn plug_in(link: &Path) -> anyhow::Result<Uart> {
        let near = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        pty::grantpt(&near)?;
        pty::unlockpt(&near)?;
        let path = pty::ptsname(&near, Vec::new())?.into_string()?;
        let far = File::options().read(true).write(true).open(&path)?;
        let mut raw = termios::tcgetattr(&far)?;
        raw.make_raw();
        termios::tcsetattr(&far, OptionalActions::Now, &raw)?;
        symlink(path, link)?;
        Ok(Uart { near, far })
    }

    /// The board says something.
    ///
    /// # Panics
    /// When it cannot.
    pub fn say(&self, text: &str) {
        assert_eq!(rustix::io::write(&self.near, text.as_bytes()).expect("a line takes bytes"), text.len());
    }

    /// The other end as the terminal of a program.
    ///
    /// # Panics
    /// When it cannot be opened again.
    pub fn terminal(&self) -> Stdio {
        self.far.try_clone().expect("an open file can be cloned").into()
    }

    /// The next that is sent to the board.
    ///
    /// # Panics
    /// When nothing is sent within a minute.
    pub fn hear(&self) -> Vec<u8> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        let mut ready = [PollFd::new(&self.near, PollFlags::IN)];
        assert_eq!(poll(&mut ready, Some(&limit)).expect("a line can be waited for"), 1, "nothing is sent");
        let mut buffer = [0; 4096];
        let count = rustix::io::read(&self.near, &mut buffer).expect("a line can be read");
        buffer[..count].to_vec()
    }
}
