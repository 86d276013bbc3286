//! Commands read by imap-codec's grammar, turned into ours.

use std::borrow::Cow;

use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_types::command::CommandBody;
use imap_types::core::{AString, IString, NString};
use imap_types::mailbox::Mailbox;

use super::cursor;
use crate::secret::Secret;
use crate::wire::imap::command::Command;

/// The command, or nothing where the codec fails or the command is not one read here: then our own readers decide.
/// The codec wants the line end back and no space before it. Where the spaces were a literal's last bytes it fails.
pub(super) fn command(message: &[u8]) -> Option<Command> {
    let spaces = message.iter().rev().take_while(|b| **b == b' ').count();
    let (text, _) = message.split_at_checked(message.len() - spaces)?;
    let line = zeroize::Zeroizing::new([text, b"\r\n"].concat());
    let (rest, command) = CommandCodec::default().decode(&line).ok()?;
    if !rest.is_empty() {
        return None;
    }
    convert(command.body)
}

fn convert(body: CommandBody<'_>) -> Option<Command> {
    Some(match body {
        CommandBody::Login { username, password } => {
            Command::Login { user: bytes(&username).to_vec(), password: Secret::new(bytes(password.declassify())) }
        }
        CommandBody::Authenticate { mechanism, initial_response } => Command::Authenticate {
            mechanism: mechanism.as_ref().to_ascii_uppercase(),
            initial: initial_response.map(|response| Secret::new(response.declassify().as_ref())),
        },
        CommandBody::Id { parameters } => {
            Command::Id(parameters.map(|pairs| pairs.iter().map(|(key, value)| (text(key), option(value))).collect()))
        }
        CommandBody::Enable { capabilities } => {
            let names = capabilities.as_ref().iter();
            Command::Enable(names.map(|name| name.to_string().to_ascii_uppercase()).collect())
        }
        CommandBody::GetQuota { root } => Command::GetQuota(String::from_utf8_lossy(bytes(&root)).into_owned()),
        CommandBody::GetQuotaRoot { mailbox } => Command::GetQuotaRoot(cursor::mailbox(&name(&mailbox)).ok()?),
        _ => return None,
    })
}

fn bytes<'a>(string: &'a AString<'_>) -> &'a [u8] {
    string.as_ref()
}

fn name<'a>(mailbox: &'a Mailbox<'_>) -> Cow<'a, [u8]> {
    match mailbox {
        Mailbox::Inbox => Cow::Borrowed(b"INBOX"),
        Mailbox::Other(other) => Cow::Borrowed(other.as_ref()),
    }
}

fn text(string: &IString<'_>) -> String {
    String::from_utf8_lossy(string.as_ref()).into_owned()
}

fn option(string: &NString<'_>) -> Option<String> {
    string.0.as_ref().map(text)
}
