//! Debian's Mosquitto as README says that it is configured, on the head of a rack's network, to be killed and started again. It
//! keeps nothing on disk.

use crate::process::{mortal_command, run, workspace};
use crate::rack_network::HEAD;
use crate::wait::wait_for;
use anyhow::Context as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// A user of a broker, with its password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Login {
    /// This user with this password.
    pub fn new(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: password.into() }
    }

    /// One of Debian's clients in this user's name at `broker`.
    pub fn client(&self, program: &str, broker: SocketAddr, arguments: &[&str]) -> Command {
        let mut client = mortal_command(program);
        client.args(["-h", &broker.ip().to_string(), "-p", &broker.port().to_string()]);
        client.args(["-u", &self.user, "-P", &self.password]).args(arguments);
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        client
    }

    /// What such a client did until it ended.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn output(&self, program: &str, broker: SocketAddr, arguments: &[&str]) -> Output {
        let output = self.client(program, broker, arguments).output();
        output.expect("setpriv is in Debian's package util-linux, the clients in mosquitto-clients")
    }
}

/// A broker, running or not.
pub struct Mosquitto {
    /// Where it listens when it runs.
    pub address: SocketAddr,
    /// The account of README's coordinator.
    pub coordinator: Login,
    /// The account of README's agents.
    pub agents: Login,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

/// The file that README shows under this path: the code block whose first line is `# PATH`.
fn readme(path: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(workspace().join("README.md"))?;
    let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| Some(block.split_once('\n')?.1));
    let first = format!("# {path}\n");
    let found = blocks.into_iter().find(|block| block.starts_with(&first));
    found.map(ToOwned::to_owned).with_context(|| format!("README shows no file {path}"))
}

impl Mosquitto {
    /// A broker that is not started yet, with README's accounts for coordinator and agents.
    ///
    /// # Errors
    /// When README or the machine lacks something.
    pub fn new() -> anyhow::Result<Mosquitto> {
        let directory = tempfile::Builder::new().prefix("piseduce-mosquitto-").tempdir()?;
        let address = (HEAD, 1883).into();
        let accounts = readme("/etc/piseduce/accounts.toml")?;
        fs::write(directory.path().join("accounts.toml"), &accounts)?;
        fs::set_permissions(directory.path().join("accounts.toml"), fs::Permissions::from_mode(0o600))?;
        let values: Vec<&str> = accounts.split('"').skip(1).step_by(2).collect();
        let [user, password, agents_user, agents_password] = values[..] else {
            anyhow::bail!("README's accounts are not two users with a password each: {accounts}")
        };
        let broker = Mosquitto {
            address,
            coordinator: Login::new(user, password),
            agents: Login::new(agents_user, agents_password),
            directory,
            child: None,
        };
        let settings = readme("/etc/mosquitto/conf.d/piseduce.conf")?;
        broker.configure(&settings)?;
        broker.set_acl(&readme("/etc/mosquitto/piseduce.acl")?)?;
        fs::write(broker.file("piseduce.passwd"), "")?;
        broker.set_password(&broker.coordinator)?;
        broker.set_password(&broker.agents)?;
        Ok(broker)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The coordinator's file with both accounts.
    pub fn accounts(&self) -> PathBuf {
        self.file("accounts.toml")
    }

    fn configure(&self, settings: &str) -> anyhow::Result<()> {
        let listener = format!("listener {} {}", self.address.port(), self.address.ip());
        let here = format!("{}/", self.directory.path().display());
        let settings = settings.replace("listener 1883", &listener).replace("/etc/mosquitto/", &here);
        // As another user it would outlive a story that is killed: the kernel forgets the parent-death signal then.
        Ok(fs::write(self.file("mosquitto.conf"), settings + "user root\n")?)
    }

    /// Adds a line to its settings, from its next start on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_setting(&self, line: &str) -> anyhow::Result<()> {
        let settings = fs::read_to_string(self.file("mosquitto.conf"))?;
        Ok(fs::write(self.file("mosquitto.conf"), format!("{settings}{line}\n"))?)
    }

    /// What each user may do, as README says it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn acl(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.file("piseduce.acl"))?)
    }

    /// Changes what each user may do, from its next start on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_acl(&self, acl: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.file("piseduce.acl"), acl)?)
    }

    /// Gives a user a password, from its next start on.
    ///
    /// # Errors
    /// When `mosquitto_passwd` fails.
    pub fn set_password(&self, login: &Login) -> anyhow::Result<()> {
        let file = self.file("piseduce.passwd");
        run("mosquitto_passwd", &["-b", &file.to_string_lossy(), &login.user, &login.password]).map(drop)
    }

    /// Starts it on this thread's network, and waits until it listens.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.file("log")).expect("a file");
        let mut mosquitto = mortal_command("mosquitto");
        mosquitto.arg("-c").arg(self.file("mosquitto.conf")).stdin(Stdio::null());
        mosquitto.stdout(Stdio::null()).stderr(log);
        self.child = Some(mosquitto.spawn().expect("setpriv is in Debian's package util-linux"));
        let listens = || TcpStream::connect(self.address).map(drop).map_err(|_| self.logged());
        // Debian's package `mosquitto` has it, if this tells that there is no such program.
        wait_for("mosquitto to come up", 20.0, listens, Result::is_ok).expect("just accepted");
    }

    /// What it has logged in all its starts.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Kills it; what it had in memory is gone.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("mosquitto runs");
        child.kill().expect("it is ours to kill");
        child.wait().expect("it is ours to wait for");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
