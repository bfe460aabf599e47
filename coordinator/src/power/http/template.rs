//! From settings to what is sent: placeholders are filled in, each as its place wants it.

use super::super::secrets::{Secrets, in_json, in_url};
use crate::domain::driver::{HttpRequest, Piece, pieces};
use crate::power::{Port, PowerError};

/// What placeholders become.
pub(super) struct Filling<'a> {
    pub(super) port: &'a Port,
    pub(super) action: &'a str,
    pub(super) token: &'a str,
    pub(super) secrets: &'a Secrets,
}

/// A request as it is sent.
pub(super) struct Filled {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
}

impl Filling<'_> {
    /// Fills in `request`.
    ///
    /// # Errors
    /// [`PowerError::Refused`] naming a secret that is not in the file.
    pub(super) fn fill(&self, request: &HttpRequest) -> Result<Filled, PowerError> {
        let given = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let is_form = given.is_some_and(|(_, value)| value.starts_with("application/x-www-form-urlencoded"));
        let in_body = if is_form { in_url } else { in_json };
        let mut headers = Vec::new();
        for (name, value) in &request.headers {
            headers.push((name.clone(), self.text(value, str::to_owned)?));
        }
        if request.body.is_some() && given.is_none() {
            headers.push(("Content-Type".into(), "application/json".into()));
        }
        let default = if request.body.is_some() { "POST" } else { "GET" };
        Ok(Filled {
            method: request.method.clone().unwrap_or_else(|| default.into()),
            url: self.text(&request.url, in_url)?,
            headers,
            body: request.body.as_ref().map(|body| self.text(body, in_body)).transpose()?,
        })
    }

    /// A JSON pointer (RFC 6901).
    pub(super) fn pointer(&self, pointer: &str) -> Result<String, PowerError> {
        self.text(pointer, |text| text.replace('~', "~0").replace('/', "~1"))
    }

    fn text(&self, text: &str, encode: impl Fn(&str) -> String) -> Result<String, PowerError> {
        let mut filled = String::new();
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => filled += text,
                Piece::Name("port") => filled += &encode(&self.port.port),
                Piece::Name("node") => filled += &encode(&self.port.node),
                Piece::Name("action") => filled += &encode(self.action),
                Piece::Name("token") => filled += &encode(self.token),
                Piece::Name(name) => {
                    let name = name.strip_prefix("secret.").unwrap_or(name);
                    let missing = || PowerError::Refused(format!("the secrets file has no `{name}`"));
                    filled += &encode(self.secrets.get(name).ok_or_else(missing)?);
                }
            }
        }
        Ok(filled)
    }
}
