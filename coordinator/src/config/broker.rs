//! Which broker: the coordinator's own with its listener, or an external one by its URL and the file with our accounts
//! there. Passwords stand in that file only; no error repeats what it holds.

use super::{ConfigError, Listener, Section};
use piseduce_protocol::boot::{ACCOUNT_CHARACTERS_MAX, Account, is_account_word};
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use toml::Table;

/// MQTT's TCP port.
const TCP_PORT: u16 = 1883;
/// A longer file with accounts is none.
const ACCOUNTS_BYTES_MAX: u64 = 64 * 1024;

const URL: &str = "a URL such as \"mqtt://10.0.0.2:1883\", without user, path or TLS";

/// Whose broker carries the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// The coordinator's own, which listens here.
    Embedded(Listener),
    /// Somebody else's.
    External(External),
}

impl Broker {
    /// Whether it is the coordinator's own.
    pub fn is_embedded(&self) -> bool {
        matches!(self, Broker::Embedded(_))
    }
}

/// A broker that is not part of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Its host as the coordinator reaches it: a name, or an IP address, in brackets if it has colons.
    pub host: String,
    /// Its TCP port.
    pub tcp_port: u16,
    /// Its address as nodes reach it.
    pub advertised: SocketAddr,
    /// The file with our accounts there.
    pub accounts: PathBuf,
}

/// Our accounts at an external broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// The coordinator's own.
    pub coordinator: Account,
    /// The one that all agents share.
    pub agents: Account,
}

impl Section<'_> {
    pub(super) fn broker(mut self) -> Result<Broker, ConfigError> {
        let Some(url) = self.text("url", URL)? else {
            if let Some(accounts) = self.text("accounts", "a file")? {
                let allowed = "only beside `url`, the address of an external broker";
                return Err(self.wrong("accounts", format!("\"{accounts}\""), allowed));
            }
            let connections = self.connections()?;
            let mut listener = self.listener("0.0.0.0:1883")?;
            listener.connections = connections;
            return Ok(Broker::Embedded(listener));
        };
        if let Some(connections) = self.connections()? {
            let allowed = "nothing beside `url`: another broker has connections of its own";
            return Err(self.wrong("connections", connections.to_string(), allowed));
        }
        let (host, tcp_port) = parse_url(&url).ok_or_else(|| {
            // Whoever writes a password into the URL must not find it in a log.
            let found = if url.contains('@') { "a URL with a user".into() } else { format!("\"{url}\"") };
            self.wrong("url", found, format!("{URL}; the accounts stand in the file `accounts`"))
        })?;
        if let Some(listen) = self.text("listen", "an address")? {
            let allowed = "nothing beside `url`: the coordinator does not listen for MQTT then";
            return Err(self.wrong("listen", format!("\"{listen}\""), allowed));
        }
        let file = "the file with the coordinator's and the agents' account at the broker";
        let accounts = self.text("accounts", file)?.ok_or_else(|| self.wrong("accounts", "missing", file))?;
        let advertised = match (self.address("advertised_address")?, host.trim_matches(['[', ']']).parse()) {
            (Some(address), _) => address,
            (None, Ok(ip)) => SocketAddr::new(ip, tcp_port),
            (None, Err(_)) => {
                let allowed = "the broker's IP address and TCP port for nodes, which resolve no names";
                return Err(self.wrong("advertised_address", "missing", allowed));
            }
        };
        if advertised.ip().is_unspecified() || advertised.port() == 0 {
            let allowed = "one address of the broker, not a wildcard";
            return Err(self.wrong("advertised_address", format!("\"{advertised}\""), allowed));
        }
        self.finish()?;
        Ok(Broker::External(External { host, tcp_port, advertised, accounts: accounts.into() }))
    }
}

/// Host and TCP port of `mqtt://HOST[:PORT]`.
fn parse_url(url: &str) -> Option<(String, u16)> {
    let authority = url.strip_prefix("mqtt://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)?),
        _ => (authority, TCP_PORT),
    };
    let is_name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = match inside {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok_and(|ip| !ip.is_unspecified()),
        None => {
            !host.is_empty()
                && is_name(host)
                && host.parse::<IpAddr>().map_or(true, |ip| !ip.is_unspecified())
        }
    };
    fits.then(|| (host.to_owned(), port))
}

impl Accounts {
    /// Reads the accounts in `file`, which only its owner may read.
    ///
    /// # Errors
    /// Every [`ConfigError`]; none shows a user's password.
    pub fn read(file: &Path) -> Result<Accounts, ConfigError> {
        let failed = |source| ConfigError::Read { file: file.into(), source };
        let opened = File::open(file).map_err(failed)?;
        let mode = opened.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(ConfigError::Public { file: file.into(), mode });
        }
        let mut text = String::new();
        opened.take(ACCOUNTS_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        Accounts::parse(&text, file)
    }

    fn parse(text: &str, file: &Path) -> Result<Accounts, ConfigError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            // The error's own text would show the line, and the password in it.
            let before = error.span().map_or(text, |span| text.get(..span.start).unwrap_or(text));
            let message = format!("line {} cannot be read", before.matches('\n').count() + 1);
            ConfigError::Syntax { file: file.into(), message }
        })?;
        let wrong = |key: &str, found: &str, allowed: String| ConfigError::Value {
            file: file.into(),
            key: key.into(),
            found: found.into(),
            allowed,
        };
        let word = |section: &str, key: &str| {
            let allowed = || {
                format!("text: one word of at most {ACCOUNT_CHARACTERS_MAX} ASCII characters without quotes")
            };
            let found = table.get(section).and_then(|section| section.get(key));
            let word = found.and_then(toml::Value::as_str).filter(|word| is_account_word(word));
            let what = if found.is_some() { "something else" } else { "missing" };
            word.map(ToOwned::to_owned).ok_or_else(|| wrong(&format!("{section}.{key}"), what, allowed()))
        };
        let account =
            |section| Ok(Account { user: word(section, "user")?, password: word(section, "password")? });
        let accounts = Accounts { coordinator: account("coordinator")?, agents: account("agents")? };
        if accounts.agents.user == accounts.coordinator.user {
            let allowed = "another user than the coordinator: agents may do less".into();
            return Err(wrong("agents.user", "the coordinator's", allowed));
        }
        Ok(accounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::os::unix::fs::PermissionsExt as _;

    const EXTERNAL: &str = "url = \"mqtt://10.0.0.2\"\naccounts = \"/etc/piseduce/accounts.toml\"";
    const ACCOUNTS: &str = "[coordinator]\nuser = \"head\"\npassword = \"hush-1\"\n\
                            [agents]\nuser = \"agents\"\npassword = \"hush-2\"\n";

    fn broker(lines: &str) -> Result<Broker, ConfigError> {
        let text = format!("[nodes]\nlisten = \"10.0.0.1:8070\"\n[broker]\n{lines}\n");
        Config::parse(&text, Path::new("head.toml")).map(|config| config.broker)
    }

    fn external(lines: &str) -> External {
        match broker(lines) {
            Ok(Broker::External(external)) => external,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_url_makes_the_broker_an_external_one() {
        let found = external(EXTERNAL);
        assert_eq!((&*found.host, found.tcp_port), ("10.0.0.2", 1883));
        assert_eq!(found.advertised, "10.0.0.2:1883".parse().unwrap());
        let six = external(&EXTERNAL.replace("10.0.0.2", "[fd00::2]:1884/"));
        assert_eq!((&*six.host, six.advertised), ("[fd00::2]", "[fd00::2]:1884".parse().unwrap()));
        let named = EXTERNAL.replace("10.0.0.2", "broker.lab") + "\nadvertised_address = \"10.0.0.2:1883\"";
        assert_eq!(external(&named).host, "broker.lab");
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let url = |url: &str| EXTERNAL.replace("mqtt://10.0.0.2", url);
        let cases = [
            (url("mqtts://10.0.0.2"), ["broker.url", "\"mqtts://10.0.0.2\"", "without user, path or TLS"]),
            (url("mqtt://10.0.0.2:0"), ["broker.url", ":0", "mqtt://10.0.0.2:1883"]),
            (url("mqtt://0.0.0.0"), ["broker.url", "0.0.0.0", "such as"]),
            (url("mqtt://10.0.0.2/x"), ["broker.url", "/x", "path"]),
            (url("mqtt://me:hush@10.0.0.2"), ["broker.url", "a URL with a user", "`accounts`"]),
            (url("mqtt://broker.lab"), ["broker.advertised_address", "missing", "resolve no names"]),
            (
                format!("{EXTERNAL}\nlisten = \"10.0.0.1:1883\""),
                ["broker.listen", "10.0.0.1", "beside `url`"],
            ),
            (format!("{EXTERNAL}\nconnections = 100"), ["broker.connections", "100", "beside `url`"]),
            (format!("{EXTERNAL}\nuser = \"me\""), ["broker.user", "not a setting", "accounts"]),
            ("url = \"mqtt://10.0.0.2\"".into(), ["broker.accounts", "missing", "the file"]),
            (
                "listen = \"10.0.0.1:1883\"\naccounts = \"/x\"".into(),
                ["broker.accounts", "\"/x\"", "only beside `url`"],
            ),
        ];
        for (lines, expected) in cases {
            let error = broker(&lines).unwrap_err().to_string();
            for part in expected {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn accounts_are_read_from_a_private_file_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ACCOUNTS).unwrap();
        let accounts = Accounts::read(file.path()).unwrap();
        assert_eq!((&*accounts.coordinator.user, &*accounts.agents.password), ("head", "hush-2"));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Accounts::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn no_error_about_accounts_shows_a_password() {
        let cases = [
            (ACCOUNTS.replace("\"hush-1\"", "hush-1"), "line 3"),
            (ACCOUNTS.replace("hush-1", "hush 1"), "coordinator.password is something else"),
            (ACCOUNTS.replace("\"hush-2\"", "4711"), "agents.password is something else"),
            (ACCOUNTS.replace("[agents]", "[agent]"), "agents.user is missing"),
            (ACCOUNTS.replace("\"agents\"", "\"head\""), "another user"),
        ];
        for (text, expected) in cases {
            let error = Accounts::parse(&text, Path::new("accounts.toml")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hush") && !error.contains("4711"), "{error}");
        }
    }
}
