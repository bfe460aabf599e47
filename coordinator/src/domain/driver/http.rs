//! Settings of the `http` driver: a preset, or requests of the operator's own. What the placeholders become and how
//! answers are judged is in [`crate::power`]; here is only what can be checked without the switch.

use super::DriverError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A switch that is asked over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// A known kind of switch at `url`; instead of the requests below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<HttpPreset>,
    /// Where the switch of a preset is: `http://10.0.0.9`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A file of `name = "value"` lines that only its owner may read; `{secret.NAME}` in requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PathBuf>,
    /// Switches `{port}` on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<HttpRequest>,
    /// Switches `{port}` off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<HttpRequest>,
    /// Reads `{port}`; without it a request that succeeded is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<HttpState>,
    /// Comes before the first request, and again when the switch has forgotten it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<HttpLogin>,
}

/// A kind of switch whose requests are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpPreset {
    /// Shelly of the second generation and later; `port` is the number of the output, from 0.
    Shelly,
    /// Shelly of the first generation; `port` is the number of the relay, from 0.
    ShellyGen1,
    /// Tasmota; `port` is the number of the relay, from 1.
    Tasmota,
    /// Home Assistant; `port` is an entity such as `switch.pi_7`.
    HomeAssistant,
    /// OpenWrt's `poe` object; `port` is an interface such as `lan3`.
    Ubus,
}

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpRequest {
    /// `GET` if none is given, `POST` with a body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Where to.
    pub url: String,
    /// Its headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What is sent; JSON unless the header `Content-Type` says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// When it succeeded.
    pub success: HttpSuccess,
}

/// When a request succeeded: both must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSuccess {
    /// Status codes; none: 200 to 299.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// What the answer says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<HttpMeaning>,
}

/// A place in a JSON answer, and which values there mean yes and no. If one list is left out, all others are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpMeaning {
    /// A JSON pointer, RFC 6901.
    pub pointer: String,
    /// Another one for answers in which the first leads nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or: Option<String>,
    /// Values that mean yes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub yes: Vec<Value>,
    /// Values that mean no.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no: Vec<Value>,
}

/// How a port is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpState {
    /// What is asked.
    pub request: HttpRequest,
    /// Whether the port is on.
    pub on: HttpMeaning,
    /// Whether it delivers power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivering: Option<HttpMeaning>,
    /// A JSON pointer to the watts that it delivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts: Option<String>,
}

/// How the driver becomes known to the switch. Cookies are kept in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpLogin {
    /// What is asked.
    pub request: HttpRequest,
    /// A JSON pointer to the `{token}` for other requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The header of the answer that bears the `{token}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_header: Option<String>,
    /// Status codes that ask for another login, besides 401 and 403.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub again_status: Vec<u16>,
    /// Answers that do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<HttpMeaning>,
}

/// What may be asked with.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn wrong(key: &'static str, found: impl std::fmt::Display, allowed: &str) -> Result<(), DriverError> {
    Err(DriverError { driver: "http", key, found: found.to_string(), allowed: allowed.into() })
}

impl HttpSettings {
    pub(super) fn check(&self) -> Result<(), DriverError> {
        let own = [self.on.is_some(), self.off.is_some(), self.state.is_some(), self.login.is_some()];
        match (self.preset, &self.url) {
            (Some(_), _) if own.contains(&true) => {
                wrong("preset", "there beside requests", "either a preset and its url, or requests")
            }
            (Some(preset), Some(url)) => {
                let needs = matches!(preset, HttpPreset::HomeAssistant);
                if needs && self.secrets.is_none() {
                    return wrong("secrets", "missing", "the path of a file with token = \"…\"");
                }
                check_url("url", url)
            }
            (Some(_), None) => wrong("url", "missing", "where the switch is, such as http://10.0.0.9"),
            (None, Some(_)) => wrong("url", "there without a preset", "a url in each request"),
            (None, None) => self.check_requests(),
        }
    }

    fn check_requests(&self) -> Result<(), DriverError> {
        let (Some(on), Some(off)) = (&self.on, &self.off) else {
            return wrong("on", "missing, or `off` is", "a preset, or both requests");
        };
        let state = self.state.as_ref().map(|state| ("state", &state.request));
        let login = self.login.as_ref().map(|login| ("login", &login.request));
        for (key, request) in [("on", on), ("off", off)].into_iter().map(Some).chain([state, login]).flatten()
        {
            self.check_request(key, request)?;
        }
        if let Some(state) = &self.state {
            check_meaning("state", &state.on)?;
            state.delivering.iter().try_for_each(|meaning| check_meaning("state", meaning))?;
        }
        self.login.iter().flat_map(|login| &login.again).try_for_each(|again| check_meaning("login", again))
    }

    fn check_request(&self, key: &'static str, request: &HttpRequest) -> Result<(), DriverError> {
        check_url(key, &request.url)?;
        if let Some(method) = &request.method {
            if !METHODS.contains(&method.as_str()) {
                return wrong(key, format!("method {method}"), &METHODS.join(", "));
            }
            if request.body.is_some() && ["GET", "DELETE"].contains(&method.as_str()) {
                return wrong(key, format!("{method} with a body"), "a body with POST, PUT and PATCH");
            }
        }
        request.success.answer.iter().try_for_each(|answer| check_meaning(key, answer))?;
        let bears_token =
            self.login.as_ref().is_some_and(|login| login.token.is_some() || login.token_header.is_some());
        for text in [&request.url].into_iter().chain(request.headers.values()).chain(&request.body) {
            for piece in pieces(text) {
                match piece {
                    Piece::Text(_) | Piece::Name("port" | "node" | "action") => {}
                    Piece::Name("token") if bears_token && key != "login" => {}
                    Piece::Name(name) if name.starts_with("secret.") && self.secrets.is_some() => {}
                    Piece::Name(name) => {
                        let allowed =
                            "{port}, {node}, {action}, {secret.NAME} with `secrets`, {token} with a login";
                        return wrong(key, format!("{{{name}}}"), allowed);
                    }
                }
            }
        }
        Ok(())
    }
}

fn check_url(key: &'static str, url: &str) -> Result<(), DriverError> {
    if url.starts_with("https://") {
        let allowed = "http:// (there is no TLS in this program: use driver `command` with curl)";
        return wrong(key, "https", allowed);
    }
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    // A url may hold a password, which then stands in no error.
    match host.is_empty() || host.contains(['{', '@']) {
        true => wrong(
            key,
            "no url of that kind",
            "http://HOST or http://HOST:PORT with a path, without placeholders and passwords in HOST",
        ),
        false => Ok(()),
    }
}

fn check_meaning(key: &'static str, meaning: &HttpMeaning) -> Result<(), DriverError> {
    if [&meaning.pointer].into_iter().chain(&meaning.or).any(|pointer| !pointer.starts_with('/')) {
        return wrong(key, format!("pointer `{}`", meaning.pointer), "JSON pointers, which begin with /");
    }
    match meaning.yes.is_empty() && meaning.no.is_empty() {
        true => wrong(
            key,
            format!("no values at {}", meaning.pointer),
            "values that mean `yes`, or `no`, or both",
        ),
        false => Ok(()),
    }
}

/// A piece of a text with placeholders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it is.
    Text(&'a str),
    /// What stood between braces.
    Name(&'a str),
}

/// The pieces of a text. Only a word between braces is a placeholder, so JSON needs no escapes.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(open) = rest[from..].find('{').map(|at| from + at) {
        let inside = &rest[open + 1..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let end = inside.find(|c| !is_word(c)).unwrap_or(inside.len());
        if end == 0 || !inside[end..].starts_with('}') {
            from = open + 1;
            continue;
        }
        found.push(Piece::Text(&rest[..open]));
        found.push(Piece::Name(&inside[..end]));
        rest = &inside[end + 1..];
        from = 0;
    }
    found.push(Piece::Text(rest));
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Driver, DriverError};
    use super::*;

    fn checked(text: &str) -> Result<(), DriverError> {
        #[derive(Deserialize)]
        struct Switch {
            driver: Driver,
        }
        let switch: Switch = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let kept: Driver = serde_json::from_value(serde_json::to_value(&switch.driver).unwrap()).unwrap();
        assert_eq!(kept, switch.driver, "what is kept is what was written");
        switch.driver.check()
    }

    const OWN: &str = r#"
        [driver.http]
        secrets = "/etc/piseduce/plug.toml"
        on = { method = "PUT", url = "http://10.0.0.9/{port}?k={secret.key}", body = '{"on":true,"by":"{token}"}' }
        off = { url = "http://10.0.0.9/{port}/off", success = { status = [204] } }
        [driver.http.state]
        request = { url = "http://10.0.0.9/{port}" }
        on = { pointer = "/on", yes = [true, 1, "on"] }
        [driver.http.login]
        request = { url = "http://10.0.0.9/login", body = '{"password":"{secret.password}"}' }
        token = "/token"
    "#;

    #[test]
    fn presets_and_own_requests_are_taken() {
        checked(OWN).unwrap();
        checked("[driver.http]\npreset = \"shelly\"\nurl = \"http://10.0.0.9\"").unwrap();
        checked("driver = \"manual\"").unwrap();
    }

    #[test]
    fn what_cannot_work_is_named() {
        for (from, to, named) in [
            ("[204]", "[204] }, body = \"{nobody}\", headers = {", "{nobody}"),
            ("PUT", "TRACE", "method TRACE"),
            ("PUT", "GET", "GET with a body"),
            ("\"PUT\", url = \"http://", "\"PUT\", url = \"https://", "command` with curl"),
            ("\"/on\"", "\"on\"", "pointer `on`"),
            (", yes = [true, 1, \"on\"]", "", "no values at /on"),
            ("secrets = \"/etc/piseduce/plug.toml\"", "", "{secret.key}"),
            ("token = \"/token\"", "", "{token}"),
            ("off = {", "url = \"http://10.0.0.9\"\noff = {", "without a preset"),
            ("off = {", "preset = \"ubus\"\noff = {", "beside requests"),
        ] {
            assert!(OWN.contains(from), "{from}");
            let error = checked(&OWN.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(named), "{named} is not in: {error}");
        }
        let lacks_token = checked("[driver.http]\npreset = \"home_assistant\"\nurl = \"http://10.0.0.9\"");
        assert_eq!(lacks_token.unwrap_err().key, "secrets");
    }

    #[test]
    fn the_examples_of_the_documents_are_taken() {
        #[derive(Deserialize)]
        struct Switches {
            switch: Vec<toml::Table>,
        }
        let documents =
            [include_str!("../../../../README.md"), include_str!("../../../../firmware-notes/poe-web.md")];
        let blocks = documents.into_iter().flat_map(|text| text.split("```toml\n").skip(1));
        let blocks = blocks.filter_map(|block| block.split("```").next());
        let mut count = 0;
        for block in blocks.filter(|block| block.contains("[[switch]]")) {
            let switches: Switches = toml::from_str(block).unwrap_or_else(|error| panic!("{block}: {error}"));
            for switch in switches.switch {
                let driver: Driver = switch["driver"].clone().try_into().unwrap();
                driver.check().unwrap();
                count += 1;
            }
        }
        assert!(count >= 4, "{count}");
    }

    #[test]
    fn only_a_word_between_braces_is_a_placeholder() {
        let found = pieces(r#"{"a":{"id":{port},"b":{}}} {x"#);
        assert_eq!(
            found,
            [Piece::Text(r#"{"a":{"id":"#), Piece::Name("port"), Piece::Text(r#","b":{}}} {x"#)]
        );
    }
}
