//! SASL messages, both directions: PLAIN, LOGIN, XOAUTH2 and OAUTHBEARER, for IMAP, POP3 and SMTP alike.
//!
//! Only the messages; who asks whom and when is the session's. Everything that holds a credential is a [`Secret`]
//! (Law 12). What a client sends is refused rather than guessed at: a name with a control character or a message with a
//! missing part is nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The two challenges of LOGIN, before base64; clients know them by these words.
pub const LOGIN_CHALLENGES: [&str; 2] = ["Username:", "Password:"];

/// What an OAUTHBEARER client answers to an error challenge, before base64 (RFC 7628 §3.2.3). An XOAUTH2 client answers
/// with nothing.
pub const OAUTHBEARER_ABORT: &[u8] = b"\x01";

/// The longest error challenge that is read, and the longest word of one that is shown: the known ones have some hundred octets.
const LONGEST_ERROR: usize = 4096;
const LONGEST_WORD: usize = 200;

/// A user name and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Whom to act for, if another than the user (RFC 4616); empty for the user itself.
    pub authorize: String,
    pub user: String,
    /// The password, or the bearer token.
    pub secret: Secret,
}

/// The base64 of one line of an exchange.
pub fn encode(message: &[u8]) -> Secret {
    Secret::new(STANDARD.encode(message))
}

/// One line of an exchange, without its line end; `=` is the empty initial response (RFC 4959 §3). Nothing for bad
/// base64, and for `*`, with which a client cancels.
pub fn decode(line: &[u8]) -> Option<Secret> {
    let line = line.trim_ascii();
    if line == b"=" {
        return Some(Secret::new(Vec::new()));
    }
    STANDARD.decode(line).ok().map(Secret::new)
}

/// The error in a challenge to a token (RFC 7628 §3.2.2; XOAUTH2's is the same), in words: base64 of a JSON object. Nothing for anything
/// else, an empty challenge among it; for one that repeats the token of the `response` it answers; and where that held none (Law 12).
pub fn read_error(challenge: &[u8], response: &Secret) -> Option<String> {
    let token = response.expose().split(|b| *b == 1).find_map(|pair| pair.strip_prefix(b"auth=Bearer "))?;
    let token = std::str::from_utf8(token).ok().filter(|token| !token.is_empty())?;
    let challenge = challenge.trim_ascii();
    if challenge.len() > LONGEST_ERROR {
        return None;
    }
    let decoded = decode(challenge)?;
    let told: serde_json::Value = serde_json::from_slice(decoded.expose()).ok()?;
    if told.to_string().contains(token) {
        return None;
    }
    let text = |name: &str| {
        let value = told.get(name)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let plain: String = text.chars().filter(|c| !c.is_control()).take(LONGEST_WORD).collect();
        (!plain.is_empty()).then_some(plain)
    };
    let status = text("status").map(|status| format!("status \"{status}\""));
    let scope = text("scope").map(|scope| format!("wants the scope \"{scope}\""));
    let words: Vec<_> = status.into_iter().chain(scope).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// PLAIN (RFC 4616), before base64.
pub fn plain(user: &str, password: &Secret) -> Secret {
    join(&[b"\0", user.as_bytes(), b"\0", password.expose()])
}

/// Reads PLAIN.
pub fn read_plain(message: &Secret) -> Option<Credentials> {
    let mut parts = message.expose().split(|b| *b == 0);
    let (authorize, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || password.is_empty() {
        return None;
    }
    let authorize = std::str::from_utf8(authorize).ok().filter(|name| !name.chars().any(char::is_control))?;
    Some(Credentials { authorize: authorize.to_owned(), user: name(user)?, secret: Secret::new(password) })
}

/// Reads the answer to LOGIN's first challenge.
pub fn read_login_user(message: &Secret) -> Option<String> {
    name(message.expose())
}

/// XOAUTH2, before base64.
pub fn xoauth2(user: &str, token: &Secret) -> Secret {
    join(&[b"user=", user.as_bytes(), b"\x01auth=Bearer ", token.expose(), b"\x01\x01"])
}

/// Reads XOAUTH2.
pub fn read_xoauth2(message: &Secret) -> Option<Credentials> {
    let message = message.expose().strip_prefix(b"user=")?;
    let end = message.iter().position(|b| *b == 1)?;
    let (user, pairs) = message.split_at_checked(end)?;
    Some(Credentials { authorize: String::new(), user: name(user)?, secret: bearer(pairs)? })
}

/// OAUTHBEARER (RFC 7628), before base64.
pub fn oauthbearer(user: &str, host: &str, port: u16, token: &Secret) -> Secret {
    let user = user.replace('=', "=3D").replace(',', "=2C");
    let head = format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer ");
    join(&[head.as_bytes(), token.expose(), b"\x01\x01"])
}

/// Reads OAUTHBEARER.
pub fn read_oauthbearer(message: &Secret) -> Option<Credentials> {
    let message = message.expose();
    let end = message.iter().position(|b| *b == 1)?;
    let (header, pairs) = message.split_at_checked(end)?;
    // gs2-header (RFC 5801 §4); no channel is bound, `p` would ask for it.
    let header = std::str::from_utf8(header).ok()?;
    let user = header.strip_prefix("n,").or_else(|| header.strip_prefix("y,"))?.strip_suffix(',')?;
    let user = unescape(user.strip_prefix("a=")?)?;
    Some(Credentials { authorize: String::new(), user: name(user.as_bytes())?, secret: bearer(pairs)? })
}

/// RFC 5801 `saslname`: only `=2C` and `=3D` may stand behind an equals sign, and no comma bare.
fn unescape(name: &str) -> Option<String> {
    if name.contains(',') {
        return None;
    }
    let mut parts = name.split('=');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        out.push(c);
        out.push_str(rest);
    }
    Some(out)
}

/// The token among `\x01`-framed pairs, which end in two `\x01`.
fn bearer(pairs: &[u8]) -> Option<Secret> {
    let pairs = pairs.strip_prefix(b"\x01")?.strip_suffix(b"\x01\x01")?;
    let auth = pairs.split(|b| *b == 1).find_map(|pair| pair.strip_prefix(b"auth="))?;
    let (scheme, token) = auth.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then(|| Secret::new(token))
}

fn name(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?;
    (!name.is_empty() && !name.chars().any(char::is_control)).then(|| name.to_owned())
}

fn join(parts: &[&[u8]]) -> Secret {
    // Sized first: a growing vector leaves copies of the secret behind.
    let mut joined = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    Secret::new(std::mem::take(&mut *joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes())
    }

    #[test]
    fn errors_in_challenges_are_words_and_never_the_token() {
        let response = xoauth2("ann", &Secret::new("ya29.secret"));
        let told = |json: &str| read_error(encode(json.as_bytes()).expose(), &response);
        let table = [
            (
                r#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#,
                Some("status \"400\", wants the scope \"https://mail.google.com/\""),
            ),
            (r#"{"status":401}"#, Some("status \"401\"")),
            (r#"{"scope":"a\u0007b"}"#, Some("wants the scope \"ab\"")),
            (r#"{"status":"no ya29.secret"}"#, None),
            (r#"{"x":"ya29.secret","status":"1"}"#, None),
            ("{}", None),
            ("[1]", None),
            ("hello", None),
            ("", None),
        ];
        for (json, want) in table {
            assert_eq!(told(json).as_deref(), want, "{json}");
        }
        assert_eq!(read_error(b"%%%", &response), None);
        assert_eq!(read_error(&vec![b'A'; LONGEST_ERROR + 1], &response), None);
        let password = plain("ann", &Secret::new("hunter2"));
        assert_eq!(read_error(encode(br#"{"status":"hunter2"}"#).expose(), &password), None);
        let long = format!("{{\"status\":\"{}\"}}", "x".repeat(1000));
        assert!(told(&long).is_some_and(|words| words.len() < 300));
    }

    #[test]
    fn messages_survive_the_round_trip() {
        for user in ["ann@example.org", "a=b,c", "\u{e4}nn"] {
            let want = Credentials { authorize: String::new(), user: user.into(), secret: secret("p w=\u{e4}") };
            assert_eq!(read_plain(&plain(user, &want.secret)).as_ref(), Some(&want));
            let want = Credentials { secret: secret("ya29.x-_~+/=="), ..want };
            assert_eq!(read_xoauth2(&xoauth2(user, &want.secret)).as_ref(), Some(&want));
            let message = oauthbearer(user, "imap.example.org", 993, &want.secret);
            assert_eq!(read_oauthbearer(&message).as_ref(), Some(&want));
            assert_eq!(decode(encode(message.expose()).expose()), Some(message));
        }
    }

    #[test]
    fn the_messages_of_the_documents() {
        let plain = decode(b"AHRpbQB0YW5zdGFhZnRhbnN0YWFm").and_then(|message| read_plain(&message)).unwrap();
        assert_eq!((plain.user.as_str(), plain.secret.expose()), ("tim", &b"tanstaaftanstaaf"[..]));
        let acting = read_plain(&secret("Ursel\0Kurt\0xipj3plmq")).unwrap();
        assert_eq!((acting.authorize.as_str(), acting.user.as_str()), ("Ursel", "Kurt"));
        // RFC 7628 §4.1.
        let bearer = decode(
            b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB",
        );
        let bearer = bearer.and_then(|message| read_oauthbearer(&message)).unwrap();
        assert_eq!(
            (bearer.user.as_str(), bearer.secret.expose()),
            ("user@example.com", &b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="[..])
        );
    }

    #[test]
    fn malformed_messages_are_nothing() {
        for message in ["", "a", "a\0b", "\0\0p", "\0u\0", "\0u\0p\0", "\0u\nx\0p", "a\r\0u\0p"] {
            assert_eq!(read_plain(&secret(message)), None, "{message:?}");
        }
        for message in [
            "user=a",
            "user=a\x01\x01",
            "user=\x01auth=Bearer t\x01\x01",
            "user=a\x01auth=Basic t\x01\x01",
            "user=a\x01auth=Bearer \x01\x01",
            "user=a\x01auth=Bearer t\x01",
            "x\x01auth=Bearer t\x01\x01",
        ] {
            assert_eq!(read_xoauth2(&secret(message)), None, "{message:?}");
        }
        for message in [
            "n,,\x01auth=Bearer t\x01\x01",
            "n,a=x=zz,\x01auth=Bearer t\x01\x01",
            "p=x,a=u,\x01auth=Bearer t\x01\x01",
            "n,a=u,v,\x01auth=Bearer t\x01\x01",
            "n,a=u,",
        ] {
            assert_eq!(read_oauthbearer(&secret(message)), None, "{message:?}");
        }
        for line in [&b"*"[..], b"a", b"AA=", b"A A=", b"\xff"] {
            assert_eq!(decode(line), None);
        }
        assert_eq!(decode(b"=").map(|empty| empty.expose().len()), Some(0));
        assert_eq!(decode(b" AA== ").map(|some| some.expose().to_vec()), Some(vec![0]));
        assert_eq!(read_login_user(&secret("ann")).as_deref(), Some("ann"));
        assert_eq!(read_login_user(&secret("")), None);
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let credentials = read_plain(&secret("\0ann\0hush")).unwrap();
        assert!(!format!("{credentials:?}").contains("hush"));
    }
}
