//! Where the coordinator is, who asks, and how an answer that is an error becomes one.

use crate::api::ErrorBody;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;

/// An answer takes at most this long.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How to reach the coordinator. The token never stands on the command line, where others could see it.
#[derive(Clone, Debug, Args)]
pub struct ConnectionOptions {
    /// The coordinator's address
    #[arg(long, global = true, env = "PISEDUCE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// File with the token of `piseduce user add` [default: ~/.config/piseduce/token]
    #[arg(long, global = true, env = "PISEDUCE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The token itself; from the environment only
    #[arg(long, env = "PISEDUCE_TOKEN", hide = true, hide_env_values = true)]
    token: Option<String>,
}

/// What goes wrong between command line and coordinator.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No token.
    #[error("no token in {file}: {source}")]
    Token {
        /// Where it should be.
        file: PathBuf,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// No answer.
    #[error("no answer from the coordinator at {url}: {source}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// An answer that is not the API's.
    #[error("{url} answers with status {status}, but not like a PiSeduce coordinator")]
    Foreign {
        /// Who answered.
        url: String,
        /// With which status.
        status: u16,
    },
    /// The coordinator says no.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
}

impl ClientError {
    /// What to do about it; may be empty.
    pub fn hint(&self) -> String {
        match self {
            ClientError::Token { .. } => {
                "name the file with --token-file or PISEDUCE_TOKEN_FILE; `piseduce user add` makes a token"
                    .into()
            }
            ClientError::Unreachable { .. } | ClientError::Foreign { .. } => {
                "is `piseduce serve` running, and is --url or PISEDUCE_URL its people's listener?".into()
            }
            ClientError::Refused(body) => body.hint.clone(),
        }
    }
}

/// A way to ask the coordinator.
pub struct Connection {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

impl Connection {
    /// Reads the token; connects with the first request.
    ///
    /// # Errors
    /// [`ClientError::Token`].
    pub fn open(options: &ConnectionOptions) -> Result<Self, ClientError> {
        let token = match &options.token {
            Some(token) => token.clone(),
            None => {
                let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
                let file = options.token_file.clone().unwrap_or_else(|| home.join(".config/piseduce/token"));
                std::fs::read_to_string(&file).map_err(|source| ClientError::Token { file, source })?
            }
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_MAX))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Ok(Connection {
            agent: config.into(),
            url: options.url.trim_end_matches('/').into(),
            authorization: format!("Bearer {}", token.trim()),
        })
    }

    fn at(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.url)
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// Every [`ClientError`] but the token's.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(self.agent.get(self.at(path)).header("Authorization", &self.authorization).call())
    }

    /// Sends something.
    ///
    /// # Errors
    /// Every [`ClientError`] but the token's.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.answer(
            self.agent.post(self.at(path)).header("Authorization", &self.authorization).send_json(body),
        )
    }

    /// Removes a resource.
    ///
    /// # Errors
    /// Every [`ClientError`] but the token's.
    pub fn delete(&self, path: &str) -> Result<(), ClientError> {
        let response = self.agent.delete(self.at(path)).header("Authorization", &self.authorization).call();
        self.text(response).map(drop)
    }

    fn answer<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let (status, text) = self.text(response)?;
        serde_json::from_str(&text).map_err(|_| ClientError::Foreign { url: self.url.clone(), status })
    }

    fn text(&self, response: Response) -> Result<(u16, String), ClientError> {
        let unreachable =
            |source| ClientError::Unreachable { url: self.url.clone(), source: Box::new(source) };
        let mut response = response.map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok((status, text));
        }
        match serde_json::from_str(&text) {
            Ok(body) => Err(ClientError::Refused(body)),
            Err(_) => Err(ClientError::Foreign { url: self.url.clone(), status }),
        }
    }
}

type Response = Result<ureq::http::Response<ureq::Body>, ureq::Error>;
