//! The other end of the socket of a rack's switch.

use anyhow::{Context as _, bail};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Asks for a port to be switched or shown: what the coordinator's `command` driver runs.
///
/// # Errors
/// When the rack is gone or refuses.
#[expect(clippy::print_stdout, reason = "the driver reads standard output")]
pub fn ask(socket: &Path, action: &str, port: &str) -> anyhow::Result<()> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("no rack answers at {}", socket.display()))?;
    writeln!(stream, "{action} {port}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if let Some(why) = answer.strip_prefix("refused: ") {
        bail!("{}", why.trim());
    }
    println!("{}", answer.trim());
    Ok(())
}
