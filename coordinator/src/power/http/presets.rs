//! The requests of known switches, from their vendors' documentation; none was tried on hardware yet.

use crate::domain::driver::{
    HttpLogin, HttpMeaning, HttpPreset, HttpRequest, HttpSettings, HttpState, HttpSuccess,
};
use serde_json::{Value, json};

/// The settings that a preset stands for.
pub(super) fn expand(settings: &HttpSettings) -> HttpSettings {
    let Some(preset) = settings.preset else { return settings.clone() };
    let base = settings.url.as_deref().unwrap_or_default().trim_end_matches('/');
    let known = settings.secrets.is_some();
    let expanded = match preset {
        HttpPreset::Shelly => shelly(base),
        HttpPreset::ShellyGen1 => shelly_gen1(base, known),
        HttpPreset::Tasmota => tasmota(base, known),
        HttpPreset::HomeAssistant => home_assistant(base),
        HttpPreset::Ubus => ubus(base, known),
    };
    HttpSettings { secrets: settings.secrets.clone(), ..expanded }
}

fn get(url: String) -> HttpRequest {
    HttpRequest { url, ..HttpRequest::default() }
}

fn post(url: String, body: &Value) -> HttpRequest {
    // A port that is a number stands in JSON without quotes.
    let body = body.to_string().replace("\"{number}\"", "{port}");
    HttpRequest { url, body: Some(body), ..HttpRequest::default() }
}

fn meaning<const Y: usize, const N: usize>(pointer: &str, yes: [Value; Y], no: [Value; N]) -> HttpMeaning {
    HttpMeaning { pointer: pointer.into(), or: None, yes: yes.into(), no: no.into() }
}

fn answering(request: HttpRequest, answer: HttpMeaning) -> HttpRequest {
    HttpRequest { success: HttpSuccess { status: vec![], answer: Some(answer) }, ..request }
}

/// <https://shelly-api-docs.shelly.cloud/gen2/General/RPCChannels>: the answer is a frame with `result` or `error`.
/// Its password means HTTP digest, which this driver does not speak.
fn shelly(base: &str) -> HttpSettings {
    let call = |method: &str, params: Value| {
        post(format!("{base}/rpc"), &json!({"id": 1, "method": method, "params": params}))
    };
    let set = |on: bool| {
        let request = call("Switch.Set", json!({"id": "{number}", "on": on}));
        Some(answering(request, meaning("/result/was_on", [json!(true), json!(false)], [])))
    };
    HttpSettings {
        on: set(true),
        off: set(false),
        state: Some(HttpState {
            request: call("Switch.GetStatus", json!({"id": "{number}"})),
            on: meaning("/result/output", [json!(true)], [json!(false)]),
            delivering: None,
            watts: Some("/result/apower".into()),
        }),
        ..HttpSettings::default()
    }
}

/// <https://shelly-api-docs.shelly.cloud/gen1/>: `/relay/0?turn=on`, answered with `ison`; HTTP basic where a
/// password is set.
fn shelly_gen1(base: &str, known: bool) -> HttpSettings {
    let ask = |query: &str| {
        let mut request = get(format!("{base}/relay/{{port}}{query}"));
        if known {
            request.headers.insert("Authorization".into(), "Basic {secret.basic}".into());
        }
        request
    };
    let on = meaning("/ison", [json!(true)], [json!(false)]);
    HttpSettings {
        on: Some(answering(ask("?turn=on"), meaning("/ison", [json!(true)], []))),
        off: Some(answering(ask("?turn=off"), meaning("/ison", [json!(false)], []))),
        state: Some(HttpState { request: ask(""), on, delivering: None, watts: None }),
        ..HttpSettings::default()
    }
}

/// <https://tasmota.github.io/docs/Commands/>: `/cm?cmnd=Power1%20On`, answered with `POWER1`, or `POWER` where there
/// is only one relay. A refusal has status 200 or 401, depending on the version, and a `WARNING`.
fn tasmota(base: &str, known: bool) -> HttpSettings {
    let login = if known { "user={secret.user}&password={secret.password}&" } else { "" };
    let ask = |what: &str| get(format!("{base}/cm?{login}cmnd=Power{{port}}{what}"));
    let power = |yes: &[&str], no: &[&str]| HttpMeaning {
        pointer: "/POWER{port}".into(),
        or: Some("/POWER".into()),
        yes: yes.iter().map(|word| json!(word)).collect(),
        no: no.iter().map(|word| json!(word)).collect(),
    };
    HttpSettings {
        on: Some(answering(ask("%20On"), power(&["ON"], &[]))),
        off: Some(answering(ask("%20Off"), power(&["OFF"], &[]))),
        state: Some(HttpState { request: ask(""), on: power(&["ON"], &["OFF"]), ..HttpState::default() }),
        ..HttpSettings::default()
    }
}

/// <https://developers.home-assistant.io/docs/api/rest/>: a long-lived access token; `unavailable` and `unknown` are
/// neither on nor off.
fn home_assistant(base: &str) -> HttpSettings {
    let shown = |mut request: HttpRequest| {
        request.headers.insert("Authorization".into(), "Bearer {secret.token}".into());
        request
    };
    let call = |service: &str| {
        let url = format!("{base}/api/services/homeassistant/{service}");
        let mut request = post(url, &json!({"entity_id": "{port}"}));
        request.headers.insert("Content-Type".into(), "application/json".into());
        Some(shown(request))
    };
    HttpSettings {
        on: call("turn_on"),
        off: call("turn_off"),
        state: Some(HttpState {
            request: shown(get(format!("{base}/api/states/{{port}}"))),
            on: meaning("/state", [json!("on")], [json!("off")]),
            ..HttpState::default()
        }),
        ..HttpSettings::default()
    }
}

/// <https://openwrt.org/docs/techref/ubus>: `result` is a list of a status (0: done, 6: permission denied) and an
/// object; a session that is over is error -32002 with HTTP status 200. The states of a port are those of realtek-poe
/// (`poe_reply_4_port_status`). Without secrets the switch must allow `poe` to unauthenticated callers.
fn ubus(base: &str, known: bool) -> HttpSettings {
    const NOBODY: &str = "00000000000000000000000000000000";
    let session = if known { "{token}" } else { NOBODY };
    let call = |session: &str, object: &str, method: &str, with: Value| {
        let params = json!([session, object, method, with]);
        let frame = json!({"jsonrpc": "2.0", "id": 1, "method": "call", "params": params});
        answering(post(format!("{base}/ubus"), &frame), meaning("/result/0", [json!(0)], []))
    };
    let manage =
        |enable: bool| Some(call(session, "poe", "manage", json!({"port": "{port}", "enable": enable})));
    let enabled = ["Searching", "Delivering power", "Requesting power", "Fault", "Other fault"];
    let status = "/result/1/ports/{port}/status";
    let with = json!({"username": "{secret.user}", "password": "{secret.password}"});
    HttpSettings {
        on: manage(true),
        off: manage(false),
        state: Some(HttpState {
            request: call(session, "poe", "info", json!({})),
            on: meaning(status, enabled.map(|word| json!(word)), [json!("Disabled")]),
            delivering: Some(meaning(status, [json!("Delivering power")], [])),
            watts: Some("/result/1/ports/{port}/consumption".into()),
        }),
        login: known.then(|| HttpLogin {
            request: call(NOBODY, "session", "login", with),
            token: Some("/result/1/ubus_rpc_session".into()),
            again: Some(HttpMeaning {
                or: Some("/result/0".into()),
                ..meaning("/error/code", [json!(-32002), json!(6)], [])
            }),
            ..HttpLogin::default()
        }),
        ..HttpSettings::default()
    }
}
