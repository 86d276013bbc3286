//! A body section, as FETCH names it.

/// What stands between the brackets of BODY[…] (RFC 9051 §6.4.5).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Section {
    /// Part numbers, from 1; empty for the message itself.
    pub path: Vec<u32>,
    pub text: SectionText,
    /// The text between the brackets as it is answered: `HEADER.FIELDS (FROM "TO")`, the client's own spelling.
    pub spelled: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum SectionText {
    /// The whole message, or the part's content.
    #[default]
    Whole,
    Header,
    HeaderFields(Vec<String>),
    HeaderFieldsNot(Vec<String>),
    Text,
    Mime,
}
