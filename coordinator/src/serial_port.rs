//! A serial device that one task owns: it reads all the time, writes what it is asked to, and opens the device
//! again when it was unplugged. Who speaks over it, relay boards or consoles, it does not know.
//!
//! Tried on pty pairs, not seen on a device. A device that is gone reads as an end of file there, as `EIO` here.

use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_serial::{SerialPortBuilderExt as _, SerialStream};

/// Between two tries at a device that is not there, at first.
const REOPEN_FIRST: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const REOPEN_MAX: Duration = Duration::from_secs(5);
/// A device that takes nothing for so long is stuck.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Writes that wait for their turn; who asks for more waits.
const WRITES_WAITING: usize = 16;
/// Read at once, in bytes.
const READ_BYTES: usize = 4096;

/// Why a device cannot be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Nothing of this name.
    #[error("there is no {0}: plug it in, or give it the name that `ls /dev/serial/by-id` shows")]
    Missing(String),
    /// Not for us.
    #[error("{0} may not be opened: the coordinator's user must be in its group, mostly dialout")]
    Forbidden(String),
    /// It is there, but cannot be opened.
    #[error("{device} cannot be opened: {why}")]
    Closed {
        /// The device.
        device: String,
        /// Why, in the system's words.
        why: String,
    },
    /// It was open, and went away.
    #[error("{device} was unplugged or its other end went away ({why}): look at its cable")]
    Unplugged {
        /// The device.
        device: String,
        /// Why, in the system's words.
        why: String,
    },
    /// Nobody will write any more.
    #[error("the coordinator is ending")]
    Ending,
    /// It takes no bytes.
    #[error("{0} takes no bytes: is something at its other end?")]
    Stuck(String),
}

#[derive(Debug)]
struct Write {
    bytes: Vec<u8>,
    done: oneshot::Sender<Result<(), SerialError>>,
}

/// A serial device; closed when this is dropped.
pub struct SerialPort {
    writes: mpsc::Sender<Write>,
    trouble: watch::Receiver<Option<SerialError>>,
    task: AbortHandle,
}

impl SerialPort {
    /// Opens `device`, now and whenever it is back; `heard` gets what it says. Must be called in a runtime.
    pub fn open(device: &str, speed: u32, heard: impl FnMut(&[u8]) + Send + 'static) -> Self {
        let (writes, requests) = mpsc::channel(WRITES_WAITING);
        let (tell, trouble) = watch::channel(None);
        let owner = Owner { device: device.into(), speed, requests, waiting: None, trouble: tell };
        let task = tokio::spawn(owner.run(heard)).abort_handle();
        SerialPort { writes, trouble, task }
    }

    /// Writes `bytes` as one piece. A device that is away is tried at once.
    ///
    /// # Errors
    /// [`SerialError`] when it is still away or goes away meanwhile.
    pub async fn write(&self, bytes: Vec<u8>) -> Result<(), SerialError> {
        let (done, written) = oneshot::channel();
        // The task ends before this only when the whole program does.
        let asked = self.writes.send(Write { bytes, done }).await.is_ok();
        let result = if asked { written.await.ok() } else { None };
        result.unwrap_or(Err(SerialError::Ending))
    }

    /// What is wrong with the device now.
    pub fn trouble(&self) -> Option<SerialError> {
        self.trouble.borrow().clone()
    }
}

impl Drop for SerialPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Owner {
    device: String,
    speed: u32,
    requests: mpsc::Receiver<Write>,
    /// What is to be written as soon as the device is open.
    waiting: Option<Write>,
    trouble: watch::Sender<Option<SerialError>>,
}

impl Owner {
    async fn run(mut self, mut heard: impl FnMut(&[u8])) {
        let mut pause = REOPEN_FIRST;
        loop {
            let trouble = match self.open() {
                Ok(stream) => {
                    pause = REOPEN_FIRST;
                    self.tell(None);
                    self.serve(stream, &mut heard).await
                }
                Err(trouble) => trouble,
            };
            self.tell(Some(trouble.clone()));
            drop(self.waiting.take().map(|write| write.done.send(Err(trouble))));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                write = self.requests.recv() => match write {
                    Some(write) => self.waiting = Some(write),
                    None => return,
                }
            }
            pause = (pause * 2).min(REOPEN_MAX);
        }
    }

    /// Shows how the device is; logs it when that is new.
    fn tell(&self, trouble: Option<SerialError>) {
        self.trouble.send_if_modified(|before| {
            let is_new = *before != trouble;
            match &trouble {
                Some(why) if is_new => tracing::warn!(%why, "serial device is away"),
                Some(_) => {}
                None => tracing::info!(device = self.device, "serial device is open"),
            }
            *before = trouble;
            is_new
        });
    }

    fn open(&self) -> Result<SerialStream, SerialError> {
        use std::io::ErrorKind;
        let device = || self.device.clone();
        if !Path::new(&self.device).exists() {
            return Err(SerialError::Missing(device()));
        }
        tokio_serial::new(&self.device, self.speed).open_native_async().map_err(|error| match error.kind() {
            tokio_serial::ErrorKind::Io(ErrorKind::PermissionDenied) => SerialError::Forbidden(device()),
            _ => SerialError::Closed { device: device(), why: error.to_string() },
        })
    }

    /// Reads and writes until the device is gone; returns why. What was not written stays in `waiting`.
    async fn serve(&mut self, stream: SerialStream, heard: &mut impl FnMut(&[u8])) -> SerialError {
        let Owner { device, requests, waiting, .. } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let unplugged = |why: String| SerialError::Unplugged { device: device.clone(), why };
        // Both at once: while much is written, much may be said.
        let reading = async {
            let mut buffer = [0; READ_BYTES];
            loop {
                match reader.read(&mut buffer).await {
                    // Were this taken for silence, the task would turn for ever.
                    Ok(0) => return unplugged("end of file".into()),
                    Ok(count) => heard(&buffer[..count]),
                    Err(error) => return unplugged(error.to_string()),
                }
            }
        };
        let writing = async {
            loop {
                if waiting.is_none() {
                    *waiting = requests.recv().await;
                }
                // Whoever could ask is gone, and this task is about to be ended.
                let Some(write) = waiting.as_ref() else { return std::future::pending().await };
                match tokio::time::timeout(WRITE_MAX, writer.write_all(&write.bytes)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return unplugged(error.to_string()),
                    Err(_) => return SerialError::Stuck(device.clone()),
                }
                // Who asked may have gone.
                drop(waiting.take().map(|write| write.done.send(Ok(()))));
            }
        };
        tokio::select! {
            trouble = reading => trouble,
            trouble = writing => trouble,
        }
    }
}

/// The other end of a serial device, for tests.
#[cfg(test)]
pub(crate) mod pty {
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::time::Duration;
    use tokio::io::AsyncReadExt as _;
    use tokio::sync::Mutex;
    use tokio_serial::{SerialPort as _, SerialStream};

    /// A pair of pseudo terminals: the test has one end, `path` leads to the other.
    pub(crate) struct Pty {
        near: Mutex<SerialStream>,
        /// Held open, or the near end would fail while nobody has the far one open.
        _far: SerialStream,
        /// The far end.
        pub(crate) path: PathBuf,
    }

    impl Pty {
        pub(crate) fn new() -> Pty {
            let (near, far) = SerialStream::pair().unwrap();
            let path = far.name().unwrap().into();
            Pty { near: near.into(), _far: far, path }
        }

        /// A new pair whose far end is also reached by the link at `link`, in place of what was there.
        pub(crate) fn at(link: &Path) -> Pty {
            let pty = Pty::new();
            let _ = std::fs::remove_file(link);
            std::os::unix::fs::symlink(&pty.path, link).unwrap();
            pty
        }

        pub(crate) fn say(&self, bytes: &[u8]) {
            self.near.try_lock().unwrap().write_all(bytes).unwrap();
        }

        /// What comes next, as soon as there is something.
        pub(crate) async fn hear(&self) -> Vec<u8> {
            let mut buffer = [0; 4096];
            let mut near = self.near.lock().await;
            let heard = tokio::time::timeout(Duration::from_secs(20), near.read(&mut buffer)).await;
            let count = heard.expect("something is said").unwrap();
            buffer[..count].to_vec()
        }

        /// The next `count` bytes.
        pub(crate) async fn hear_bytes(&self, count: usize) -> Vec<u8> {
            let mut heard = Vec::new();
            while heard.len() < count {
                heard.extend(self.hear().await);
            }
            heard
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pty::Pty;
    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let pty = Pty::new();
        let (send, mut heard) = mpsc::unbounded_channel();
        let open = SerialPort::open(pty.path.to_str().unwrap(), 115_200, move |bytes| {
            send.send(bytes.to_vec()).unwrap();
        });
        open.write(b"\x00\r\n\xff".to_vec()).await.unwrap();
        assert_eq!(pty.hear_bytes(4).await, b"\x00\r\n\xff");
        pty.say(b"\x03\x04\r");
        assert_eq!(heard.recv().await.unwrap(), b"\x03\x04\r");
        assert_eq!(open.trouble(), None);
    }

    #[tokio::test]
    async fn a_device_that_was_unplugged_is_opened_again_under_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("relays");
        let name = link.to_str().unwrap();
        let port = SerialPort::open(name, 9600, |_| ());
        let error = port.write(vec![1]).await.unwrap_err();
        assert_eq!(error, SerialError::Missing(name.into()));
        assert!(error.to_string().contains("/dev/serial/by-id"), "{error}");
        let mut trouble = port.trouble.clone();
        for _ in 0..2 {
            let pty = Pty::at(&link);
            trouble.wait_for(Option::is_none).await.unwrap();
            port.write(vec![7]).await.unwrap();
            assert_eq!(pty.hear().await, [7]);
            drop(pty);
            std::fs::remove_file(&link).unwrap();
            trouble.wait_for(Option::is_some).await.unwrap();
            assert!(port.write(vec![8]).await.is_err());
        }
    }
}
