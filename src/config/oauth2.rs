//! `[account.oauth2]`: the provider's preset, overridden by what the file says.

use std::net::IpAddr;
use std::path::Path;

use url::{Host, Url};

use super::account::read_secret;
use super::load::{existing_file, one_of};
use super::reader::Table;
use super::schema;
use super::values::Wrong;
use super::{OAuth2, OAuthGrant};
use crate::provider::{OAuthPreset, Preset};
use crate::secret::SecretRef;

/// Microsoft's name for "any account": personal or of an organisation.
const ANY_TENANT: &str = "common";

/// Reads the table; `None` where there is none, or after a fault that leaves nothing to build one of.
pub(super) fn read(
    account: &Table<'_>,
    dir: &Path,
    provider: Option<&Preset>,
    address: Option<&str>,
    user: &str,
) -> Option<OAuth2> {
    if !account.has("oauth2") {
        return None;
    }
    let table = account.table("oauth2");
    table.allow(&schema::OAUTH2);
    let preset = provider.and_then(|provider| provider.oauth2.as_ref());
    // "client" is the older word.
    let grants = [
        ("user", OAuthGrant::User),
        ("client-credentials", OAuthGrant::Client),
        ("service-account", OAuthGrant::ServiceAccount),
        ("client", OAuthGrant::Client),
    ];
    let grant = table.text("grant").and_then(|at| at.parse(|text| one_of(text, &grants, ""))).unwrap_or_default();
    let key = read_key(&table, dir, grant);
    let client_id = table.word("client_id").map(|at| at.value.to_owned());
    // A service account's name stands in its key.
    let client_id = client_id.or_else(|| (grant == OAuthGrant::ServiceAccount).then(String::new));
    if client_id.is_none() && !table.has("client_id") {
        let mend = preset.map_or("Give the id of the application you have registered with your provider.", |preset| {
            preset.client_help.as_str()
        });
        table.fault("client_id", "is missing", mend);
    }
    let client_secret = read_secret(&table, "client_secret", dir);
    if grant == OAuthGrant::Client && !table.has("client_secret") {
        let mend = "An application that acts by itself has to prove who it is: add `client_secret = { file = \"…\" }`.";
        table.fault("client_secret", "is missing", mend);
    }
    let tenant = table.word("tenant").and_then(|at| at.parse(|text| tenant(text)));
    let tenant = tenant.unwrap_or_else(|| ANY_TENANT.to_owned());
    let url = |key: &str, of_preset: fn(&OAuthPreset) -> Option<&String>| {
        let own = table.word(key).and_then(|at| at.parse(|text| server_url(text)));
        own.or_else(|| Some(preset.and_then(of_preset)?.replace("{tenant}", &tenant)))
    };
    let token_url = url("token_url", |preset| Some(&preset.token));
    if token_url.is_none() && !table.has("token_url") {
        let mend = "Set `token_url` (and `authorize_url`, or `device_url`) as your provider names them.";
        let of = address.and_then(|address| address.rsplit_once('@')).map_or("this provider", |(_, domain)| domain);
        table.fault("token_url", format!("is missing, as mailweir does not know the OAuth server of {of}"), mend);
    }
    let authorize_url = url("authorize_url", |preset| Some(&preset.authorize));
    let device_url = url("device_url", |preset| preset.device.as_ref());
    if grant == OAuthGrant::User && token_url.is_some() && authorize_url.is_none() && device_url.is_none() {
        let mend = "Set one of them as your provider names it, or `grant = \"client-credentials\"` where nobody is to be asked.";
        table.fault("authorize_url", "is missing, and there is no `device_url` either", mend);
    }
    let scopes = table.list("scopes").map(|list| list.into_iter().map(|at| at.value.to_owned()).collect());
    let scopes = scopes.or_else(|| {
        Some(match grant {
            OAuthGrant::User => preset?.scopes.clone(),
            OAuthGrant::Client | OAuthGrant::ServiceAccount => preset?.client_scopes.clone(),
        })
    });
    Some(OAuth2 {
        client_id: client_id?,
        client_secret,
        grant,
        key,
        subject: user.to_owned(),
        authorize_url,
        token_url: token_url?,
        device_url,
        scopes: scopes.unwrap_or_default(),
        parameters: preset.map(|preset| preset.parameters.clone().into_iter().collect()).unwrap_or_default(),
        redirect_url: table
            .word("redirect_url")
            .and_then(|at| at.parse(|text| absolute_url(text).map(|_| (*text).to_owned()))),
        redirect_host: preset.and_then(|preset| preset.redirect_host.clone()).unwrap_or_else(|| "127.0.0.1".to_owned()),
        ca_file: table.word("ca_file").and_then(|at| existing_file(at, dir)),
    })
}

/// The key file of a service account: there with that grant, and only with it.
fn read_key(table: &Table<'_>, dir: &Path, grant: OAuthGrant) -> Option<SecretRef> {
    let wanted = grant == OAuthGrant::ServiceAccount;
    match (wanted, table.has("key")) {
        (true, false) => {
            let mend =
                "Add the JSON file your provider gave for the service account: `key = { file = \"robot.json\" }`.";
            table.fault("key", "is missing", mend);
        }
        (false, true) => {
            let mend = "Write `grant = \"service-account\"`, or take the key out.";
            table.fault("key", "is of use to a service account only", mend);
        }
        _ => {}
    }
    read_secret(table, "key", dir).filter(|_| wanted)
}

fn absolute_url(text: &str) -> Result<Url, Wrong> {
    let mend = "Write it whole, like \"https://login.example.org/oauth2/token\".";
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err((format!("`{}` is not a web address", text.escape_debug()), mend.into())),
    }
}

/// Tokens and secrets go there: over TLS, or no further than this computer.
fn server_url(text: &str) -> Result<String, Wrong> {
    let url = absolute_url(text)?;
    let near = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || near {
        return Ok(text.to_owned());
    }
    Err((format!("`{text}` is not encrypted, and tokens would go there"), "Use the server's https:// address.".into()))
}

/// What may stand in the path of a URL: an id, a domain, or one of Microsoft's words.
fn tenant(text: &str) -> Result<String, Wrong> {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Ok(text.to_owned());
    }
    let mend = "It is the organisation's id or domain, or \"common\", \"consumers\" or \"organizations\".";
    Err((format!("`{}` is no tenant", text.escape_debug()), mend.into()))
}
