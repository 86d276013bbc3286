//! Labels and their values. All of them are bounded: protocols, command names and outcomes are our own words, never a client's;
//! accounts are those of the configuration.

use prometheus_client::encoding::EncodeLabelSet;

/// What stands in the label `account` (`http.label_accounts`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccountLabels {
    /// [`account_id`]: metrics travel further than the machine they come from, and an address is somebody's.
    #[default]
    Id,
    Address,
}

impl AccountLabels {
    pub(super) fn of(self, address: &str) -> String {
        match self {
            Self::Id => account_id(address),
            Self::Address => escaped(address),
        }
    }
}

/// A short name for an account that stays the same and does not show the address: `mailweir status` and `mailweir account list` show which
/// is which. Ten hexadecimal digits, so that two accounts of one file have the same once in a thousand million files of fifty.
pub fn account_id(address: &str) -> String {
    let hash = blake3::derive_key("mailweir 2026-11 account label", address.to_ascii_lowercase().as_bytes());
    hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// A label's value as the text format wants it; the library writes it as it is.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A set of labels for each combination of names that some metric has.
macro_rules! labels {
    ($($name:ident { $($label:ident: $value:ty),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            $(pub(super) $label: $value,)+
        }
    )+};
}

labels! {
    ByProtocol { protocol: &'static str }
    ByOutcome { outcome: &'static str }
    ByClass { class: &'static str }
    ByCertificate { certificate: &'static str }
    ByCommand { protocol: &'static str, command: &'static str, outcome: &'static str }
    ByVersion { version: &'static str }
    ByAction { action: &'static str, outcome: &'static str }
    ByAccount { account: String }
    ByAccountPolicy { account: String, policy: &'static str }
    ByAccountOutcome { account: String, outcome: &'static str }
    ByAccountMeaning { account: String, meaning: &'static str }
    ByAccountDirection { account: String, direction: &'static str }
    ByAccountCounted { account: String, counted: &'static str }
    ByAccountState { account: String, state: &'static str }
    ByAccountClass { account: String, class: &'static str }
    ByAccountShare { account: String, share: &'static str }
    ByAccountKind { account: String, kind: &'static str }
}
