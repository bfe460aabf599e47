//! What a boot root is told on its kernel command line, written by the coordinator, read by the agent.

use crate::id::{BootNumber, Serial};
use crate::seal::BootToken;
use crate::topic::Site;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

/// The parameters of one boot of one node.
#[derive(Clone, PartialEq, Eq)]
pub struct BootParameters {
    /// The site whose topics the agent uses.
    pub site: Site,
    /// The broker's address: host and TCP port.
    pub broker: String,
    /// The coordinator's nodes' listener: host and TCP port, plain HTTP.
    pub head: String,
    /// The node that this boot is for.
    pub serial: Serial,
    /// Which boot it is.
    pub boot: BootNumber,
    /// The boot's secret.
    pub token: BootToken,
    /// The account that all agents share at an external broker; none: the token's own at the coordinator's broker.
    pub account: Option<Account>,
}

/// A user of an MQTT broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Without the password, which must not reach a log.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The longest user name or password of an account, in characters: a kernel command line is short.
pub const ACCOUNT_CHARACTERS_MAX: usize = 128;

/// Whether `text` can be the user name or the password of an [`Account`] on a kernel command line: one word of
/// printable ASCII characters without quotes, which the kernel would take away.
pub fn is_account_word(text: &str) -> bool {
    (1..=ACCOUNT_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

/// Why a kernel command line does not tell an agent what it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// A parameter is not there.
    #[error("kernel command line has no parameter {0}")]
    Missing(&'static str),
    /// A parameter's value is not what it should be. The values of secrets are not repeated.
    #[error("parameter {name} on the kernel command line is wrong: {found}")]
    Wrong {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: String,
    },
}

const SITE: &str = "piseduce.site";
const BROKER: &str = "piseduce.broker";
const HEAD: &str = "piseduce.head";
const SERIAL: &str = "piseduce.serial";
const BOOT: &str = "piseduce.boot";
const TOKEN: &str = "piseduce.token";
const BROKER_USER: &str = "piseduce.broker_user";
const BROKER_PASSWORD: &str = "piseduce.broker_password";

/// The parameters whose values are secrets, for whoever shows what a boot root prints.
pub const SECRET_PARAMETERS: [&str; 2] = [TOKEN, BROKER_PASSWORD];

impl BootParameters {
    /// The parameters as words of a kernel command line.
    pub fn render(&self) -> String {
        let mut line = format!(
            "{SITE}={} {BROKER}={} {HEAD}={} {SERIAL}={} {BOOT}={} {TOKEN}={}",
            self.site.name(),
            self.broker,
            self.head,
            self.serial,
            self.boot,
            self.token.to_hex(),
        );
        if let Some(Account { user, password }) = &self.account {
            line += &format!(" {BROKER_USER}={user} {BROKER_PASSWORD}={password}");
        }
        line
    }

    /// The parameters among the words of `command_line`.
    ///
    /// # Errors
    /// [`BootError`] with the first parameter that is missing or wrong.
    pub fn parse(command_line: &str) -> Result<Self, BootError> {
        let value = |name: &'static str| {
            let mut words = command_line.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).ok_or(BootError::Missing(name))
        };
        Ok(BootParameters {
            site: Site::new(value(SITE)?).map_err(|_| wrong(SITE, value(SITE)))?,
            broker: value(BROKER)?.into(),
            head: value(HEAD)?.into(),
            serial: parsed(SERIAL, value(SERIAL)?)?,
            boot: parsed(BOOT, value(BOOT)?).map(BootNumber)?,
            token: BootToken::from_hex(value(TOKEN)?).ok_or_else(|| wrong(TOKEN, Ok("not 64 hex digits")))?,
            account: match value(BROKER_USER) {
                Ok(user) => Some(Account { user: user.into(), password: value(BROKER_PASSWORD)?.into() }),
                Err(_) => None,
            },
        })
    }
}

fn parsed<T: FromStr>(name: &'static str, text: &str) -> Result<T, BootError> {
    text.parse().map_err(|_| wrong(name, Ok(text)))
}

fn wrong(name: &'static str, found: Result<&str, BootError>) -> BootError {
    BootError::Wrong { name, found: found.unwrap_or_default().to_string() }
}

/// The MQTT client id of the agent of a node; a newer boot takes the older one's session over. It is the level of the
/// node's topics, so that an external broker's pattern of the client id can name them.
pub fn client_id(serial: Serial) -> String {
    serial.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> BootParameters {
        BootParameters {
            site: Site::new("main").unwrap(),
            broker: "10.0.0.1:1883".into(),
            head: "10.0.0.1:8070".into(),
            serial: Serial(0x1000_0000_0000_00ab),
            boot: BootNumber(7),
            token: BootToken([3; 32]),
            account: None,
        }
    }

    fn with_account() -> BootParameters {
        let account = Account { user: "agents".into(), password: "p=w,'#".into() };
        BootParameters { account: Some(account), ..parameters() }
    }

    #[test]
    fn what_was_rendered_is_found_among_other_words() {
        for parameters in [parameters(), with_account()] {
            let line = format!("console=ttyAMA0 {} panic=10\n", parameters.render());
            assert!(BootParameters::parse(&line) == Ok(parameters));
        }
    }

    #[test]
    fn a_missing_or_wrong_parameter_is_named_and_the_token_is_not_shown() {
        let line = parameters().render();
        let error = |line: &str| BootParameters::parse(line).err().unwrap().to_string();
        assert!(error("quiet").contains("piseduce.site"));
        assert!(error(&line.replace("boot=7", "boot=x")).contains("piseduce.boot"));
        let token = error(&line.replace("0303", "03zz"));
        assert!(token.contains("piseduce.token") && !token.contains("zz"), "{token}");
        let half = with_account().render().replace("piseduce.broker_password", "x");
        assert!(error(&half).contains("piseduce.broker_password"));
    }

    #[test]
    fn an_account_fits_a_kernel_command_line_and_shows_no_password() {
        assert!(is_account_word("p=w,'#") && is_account_word(&"x".repeat(128)));
        for wrong in ["", "a b", "a\tb", "a\"b", "ä", &"x".repeat(129)] {
            assert!(!is_account_word(wrong), "{wrong}");
        }
        assert!(!format!("{:?}", with_account().account).contains("p=w"));
    }
}
