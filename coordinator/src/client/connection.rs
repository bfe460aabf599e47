//! Where the coordinator is, who asks, and how an answer that is an error becomes one.

use super::error::ClientError;
use crate::api::ErrorBody;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
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
    #[arg(long, global = true, env = "PISEDUCE_URL", default_value = "http://127.0.0.1:8080",
        value_parser = base_url)]
    url: String,
    /// File with the token of `piseduce user add` [env: PISEDUCE_TOKEN_FILE] [default: ~/.config/piseduce/token]
    // Not read from the environment by clap: `user add` has an option of this name for where to *write* a token.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token itself; from the environment only
    #[arg(long, env = "PISEDUCE_TOKEN", hide = true, hide_env_values = true)]
    token: Option<String>,
}

/// The address of a coordinator as it may be given.
fn base_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace) => {
            Ok(text.trim_end_matches('/').into())
        }
        _ if text.starts_with("https://") => {
            Err("this program speaks plain HTTP: reach the coordinator by an SSH tunnel or VPN".into())
        }
        _ => Err("expected is an address such as http://10.0.0.1:8080".into()),
    }
}

/// A way to ask the coordinator; clones share its connections.
#[derive(Clone)]
pub struct Connection {
    agent: ureq::Agent,
    url: String,
    authorization: String,
    /// Where the token is from, for people.
    token_place: String,
}

/// The token, and where it is from.
fn token(options: &ConnectionOptions) -> Result<(String, String), ClientError> {
    if let Some(token) = &options.token {
        return Ok((token.clone(), "PISEDUCE_TOKEN".into()));
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let file = options.token_file.clone().or_else(|| variable("PISEDUCE_TOKEN_FILE"));
    let home = || variable("HOME").unwrap_or_default().join(".config/piseduce/token");
    let file = file.unwrap_or_else(home);
    match std::fs::read_to_string(&file) {
        Ok(token) => Ok((token, file.display().to_string())),
        Err(source) => Err(ClientError::Token { file, source }),
    }
}

impl Connection {
    /// Reads the token; connects with the first request.
    ///
    /// # Errors
    /// [`ClientError::Token`] and [`ClientError::NotAToken`].
    pub fn open(options: &ConnectionOptions) -> Result<Self, ClientError> {
        let (token, token_place) = token(options)?;
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ClientError::NotAToken { place: token_place });
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_MAX))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Ok(Connection {
            agent: config.into(),
            url: options.url.clone(),
            authorization: format!("Bearer {token}"),
            token_place,
        })
    }

    fn at(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.url)
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(self.agent.get(self.at(path)).header("Authorization", &self.authorization).call())
    }

    /// Sends something.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.answer(
            self.agent.post(self.at(path)).header("Authorization", &self.authorization).send_json(body),
        )
    }

    /// Reads bytes for as long as they come and `take` wants more of them.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub fn stream(&self, path: &str, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), ClientError> {
        let request = self.agent.get(self.at(path)).header("Authorization", &self.authorization);
        // Nobody knows when the last byte comes; only the answer itself has a limit.
        let request = request.config().timeout_global(None).timeout_recv_response(Some(ANSWER_MAX)).build();
        let response = request.call().map_err(|error| self.unreachable(error))?;
        if !response.status().is_success() {
            return self.text(Ok(response)).map(drop);
        }
        let mut bytes = response.into_body().into_reader();
        let mut buffer = [0; 4096];
        loop {
            match bytes.read(&mut buffer).map_err(|error| self.unreachable(error.into()))? {
                0 => return Ok(()),
                count if !take(&buffer[..count]) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub fn post_bytes(&self, path: &str, bytes: &[u8]) -> Result<(), ClientError> {
        self.answer(self.agent.post(self.at(path)).header("Authorization", &self.authorization).send(bytes))
    }

    /// Replaces a resource by all that `bytes` has.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub fn put_all<T: DeserializeOwned>(&self, path: &str, bytes: &mut impl Read) -> Result<T, ClientError> {
        let request = self.agent.put(self.at(path)).header("Authorization", &self.authorization);
        // Nobody knows how long that takes; only the answer itself has a limit.
        let request = request.config().timeout_global(None).timeout_recv_response(Some(ANSWER_MAX)).build();
        self.answer(request.send(ureq::SendBody::from_reader(bytes)))
    }

    /// Removes a resource.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(self.agent.delete(self.at(path)).header("Authorization", &self.authorization).call())
    }

    fn answer<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let (status, text) = self.text(response)?;
        serde_json::from_str(&text).map_err(|_| ClientError::Foreign { url: self.url.clone(), status })
    }

    fn unreachable(&self, error: ureq::Error) -> ClientError {
        let source = match error {
            ureq::Error::Io(error) => error.into(),
            ureq::Error::Timeout(_) => format!("it said nothing for {} s", ANSWER_MAX.as_secs()).into(),
            other => other.into(),
        };
        ClientError::Unreachable { url: self.url.clone(), source }
    }

    fn text(&self, response: Response) -> Result<(u16, String), ClientError> {
        let mut response = response.map_err(|error| self.unreachable(error))?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok((status, text));
        }
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(_) if status == 401 => Err(ClientError::UnknownToken { place: self.token_place.clone() }),
            Ok(body) => Err(ClientError::Refused(body)),
            Err(_) => Err(ClientError::Foreign { url: self.url.clone(), status }),
        }
    }
}

type Response = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// A name as one level of a path, whatever is in it.
pub(super) fn level(name: &str) -> String {
    let mut level = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => level.push(char::from(byte)),
            other => level += &format!("%{other:02X}"),
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_level_of_a_path() {
        assert_eq!(level("pi-1"), "pi-1");
        assert_eq!(level("../a b?c"), "%2E%2E%2Fa%20b%3Fc");
    }

    #[test]
    fn a_url_is_http_with_a_host() {
        assert_eq!(base_url("http://head:8080/").as_deref(), Ok("http://head:8080"));
        for wrong in ["", "head:8080", "http://", "http:///x", "http://a b", "https://head", "ftp://head"] {
            assert!(base_url(wrong).is_err(), "{wrong}");
        }
    }
}
