//! Address lists (RFC 5322 §3.4) as ENVELOPE shows them.
//!
//! Real lists are often broken. An address that lacks something is still shown, with the word in place of it that
//! Dovecot uses and mail programs have met before; after text that cannot belong to an address the rest of the field is
//! left out, since guessing could show a recipient that the message does not have.

use super::quote;
use super::token::Cursor;

const NO_MAILBOX: &[u8] = b"MISSING_MAILBOX";
const NO_DOMAIN: &[u8] = b"MISSING_DOMAIN";
const BAD_DOMAIN: &[u8] = b"SYNTAX_ERROR";
const BAD_ROUTE: &[u8] = b"INVALID_ROUTE";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Mailbox { name: Option<Vec<u8>>, route: Option<Vec<u8>>, mailbox: Vec<u8>, domain: Vec<u8> },
    GroupStart(Vec<u8>),
    GroupEnd,
}

/// Appends the addresses of one unfolded value to `list`.
pub(super) fn parse(value: &[u8], list: &mut Vec<Address>) {
    let mut parser = Parser { cursor: Cursor::new(value), list, in_group: false };
    parser.list();
    if parser.in_group {
        parser.list.push(Address::GroupEnd);
    }
}

/// The list as ENVELOPE writes it: `NIL` or `((…)(…))`.
pub(super) fn render(out: &mut Vec<u8>, list: &[Address]) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for address in list {
        match address {
            Address::Mailbox { name, route, mailbox, domain } => {
                out.push(b'(');
                match name {
                    Some(name) => quote::phrase(out, name),
                    None => out.extend_from_slice(b"NIL"),
                }
                out.push(b' ');
                quote::nstring(out, route.as_deref());
                out.push(b' ');
                quote::string(out, mailbox);
                out.push(b' ');
                quote::string(out, domain);
                out.push(b')');
            }
            Address::GroupStart(name) => {
                out.extend_from_slice(b"(NIL NIL ");
                quote::string(out, name);
                out.extend_from_slice(b" NIL)");
            }
            Address::GroupEnd => out.extend_from_slice(b"(NIL NIL NIL NIL)"),
        }
    }
    out.push(b')');
}

struct Parser<'a, 'l> {
    cursor: Cursor<'a>,
    list: &'l mut Vec<Address>,
    in_group: bool,
}

/// What may follow an address.
enum Then {
    Separator,
    /// A group has opened.
    Members,
    /// Text that cannot be understood.
    Lost,
}

impl Parser<'_, '_> {
    fn list(&mut self) {
        let mut after_comma = false;
        loop {
            if self.cursor.blanks().unclosed || self.cursor.at_end() {
                return;
            }
            let group_closes = self.in_group && self.cursor.peek() == Some(b';') && !after_comma;
            let then = if group_closes { Then::Separator } else { self.address() };
            match then {
                Then::Separator => {}
                Then::Members => {
                    after_comma = false;
                    continue;
                }
                Then::Lost => return,
            }
            // A group may close here, and then only a comma can follow.
            if self.in_group && self.cursor.eat(b';') {
                self.list.push(Address::GroupEnd);
                self.in_group = false;
                self.cursor.blanks();
            }
            if !self.cursor.eat(b',') {
                return;
            }
            after_comma = true;
        }
    }

    fn address(&mut self) -> Then {
        let phrase = self.phrase();
        if let Some(what) = phrase.unclosed {
            // Two words are a name; of a single one it takes a quote that never closes to make something.
            let named = phrase.words.len() > 1 || (what == Unclosed::Quote && phrase.quoted);
            let name = phrase.text().filter(|_| named);
            let local = phrase.words.into_iter().next().filter(|_| !named && what == Unclosed::Quote);
            self.push(name, None, local, None);
            return Then::Lost;
        }
        match self.cursor.peek() {
            Some(b'<') => self.angle(phrase.text()),
            Some(b':') if !self.in_group => {
                self.cursor.skip();
                let name = phrase.text().unwrap_or_default();
                self.list.push(Address::GroupStart(name));
                self.in_group = true;
                Then::Members
            }
            // `a (c) b@d`: the comment has ended the first address.
            _ if phrase.words.len() > 1 && phrase.broken => {
                let local = phrase.words.into_iter().next();
                self.push(phrase.comment, None, local, None);
                Then::Lost
            }
            // Two words and an `@`: there is no telling which of them is the local part.
            _ if phrase.words.len() > 1 => {
                self.push(phrase.text(), None, None, None);
                Then::Separator
            }
            // A quoted string alone is somebody's name.
            next if phrase.quoted && next != Some(b'@') && next != Some(b'.') && phrase.comment.is_none() => {
                self.push(phrase.text(), None, None, None);
                Then::Separator
            }
            Some(b'.') if phrase.quoted => {
                self.push(phrase.text(), None, None, None);
                Then::Lost
            }
            _ => self.plain(phrase),
        }
    }

    /// The words before `<`, `:` or `@`.
    fn phrase(&mut self) -> Phrase {
        let mut phrase = Phrase::default();
        loop {
            match self.cursor.peek() {
                Some(b'"') => match self.cursor.quoted() {
                    Some(word) => {
                        phrase.words.push(word);
                        phrase.quoted = true;
                    }
                    None => {
                        phrase.unclosed = Some(Unclosed::Quote);
                        return phrase;
                    }
                },
                // A dot right after a quoted string belongs to nothing.
                Some(b'.') if phrase.quoted && phrase.words.len() == 1 => return phrase,
                _ => {
                    let word = self.cursor.dotted();
                    if word.is_empty() {
                        return phrase;
                    }
                    match (word, phrase.words.last_mut()) {
                        // A dot on its own goes with the word before; the blank marks the oddity for `phrase`.
                        (b".", Some(before)) => before.extend_from_slice(b". "),
                        _ => phrase.words.push(word.to_vec()),
                    }
                }
            }
            let blanks = self.cursor.blanks();
            phrase.unclosed = blanks.unclosed.then_some(Unclosed::Comment);
            phrase.broken |= blanks.comment.is_some() && phrase.words.len() == 1;
            phrase.comment = blanks.comment.or(phrase.comment);
            if phrase.unclosed.is_some() {
                return phrase;
            }
        }
    }

    /// `local@domain (name)`.
    fn plain(&mut self, phrase: Phrase) -> Then {
        let mut name = phrase.comment;
        let mut domain = None;
        let local = phrase.words.into_iter().next();
        if local.is_none() && !matches!(self.cursor.peek(), Some(b'@' | b',' | b';') | None) {
            self.push(None, None, None, None);
            return Then::Lost;
        }
        if self.cursor.eat(b'@') {
            let before = self.cursor.blanks();
            name = before.comment.or(name);
            domain = self.domain(&mut name);
            name = self.cursor.blanks().comment.or(name);
        }
        self.push(name.filter(|name| !name.is_empty()), None, local, domain);
        Then::Separator
    }

    /// `<@route:local@domain>`, its bracket next.
    fn angle(&mut self, name: Option<Vec<u8>>) -> Then {
        self.cursor.skip();
        self.cursor.blanks();
        let route = (self.cursor.peek() == Some(b'@')).then(|| self.route());
        let local = match self.cursor.peek() {
            Some(b'"') => self.cursor.quoted(),
            _ => Some(self.cursor.dotted().to_vec()).filter(|local| !local.is_empty()),
        };
        let local = if self.cursor.blanks().unclosed { None } else { local };
        let mut domain = None;
        let mut bad = false;
        if self.cursor.eat(b'@') {
            self.cursor.blanks();
            domain = self.domain(&mut None);
            bad = domain.is_none();
        }
        self.cursor.blanks();
        let closed = self.cursor.eat(b'>');
        if self.cursor.blanks().unclosed || bad || !closed {
            domain = Some(BAD_DOMAIN.to_vec());
        }
        self.push(name.filter(|name| !name.is_empty()), route, local, domain);
        Then::Separator
    }

    /// `@a,@b:`, the `@` next.
    fn route(&mut self) -> Vec<u8> {
        let mut route = Vec::new();
        loop {
            while self.cursor.eat(b',') {
                self.cursor.blanks();
            }
            if self.cursor.eat(b':') {
                self.cursor.blanks();
                return route;
            }
            if !self.cursor.eat(b'@') {
                return BAD_ROUTE.to_vec();
            }
            self.cursor.blanks();
            let Some(domain) = self.domain(&mut None) else {
                return BAD_ROUTE.to_vec();
            };
            if !route.is_empty() {
                route.push(b',');
            }
            route.push(b'@');
            route.extend_from_slice(&domain);
            self.cursor.blanks();
        }
    }

    /// Atoms with single dots between them, blanks allowed around the dots, or a literal. Comments go to `comment`.
    fn domain(&mut self, comment: &mut Option<Vec<u8>>) -> Option<Vec<u8>> {
        if self.cursor.peek() == Some(b'[') {
            return self.cursor.domain_literal().map(<[u8]>::to_vec);
        }
        let mut domain = Vec::new();
        loop {
            let label = self.cursor.atom();
            if label.is_empty() {
                return None;
            }
            domain.extend_from_slice(label);
            self.blanks_in_domain(comment)?;
            if !self.cursor.eat(b'.') {
                return Some(domain);
            }
            domain.push(b'.');
            self.blanks_in_domain(comment)?;
        }
    }

    /// Nothing if a comment never closes: then there is no telling where the domain ends.
    fn blanks_in_domain(&mut self, comment: &mut Option<Vec<u8>>) -> Option<()> {
        let blanks = self.cursor.blanks();
        if blanks.comment.is_some() {
            *comment = blanks.comment;
        }
        (!blanks.unclosed).then_some(())
    }

    fn push(
        &mut self,
        name: Option<Vec<u8>>,
        route: Option<Vec<u8>>,
        mailbox: Option<Vec<u8>>,
        domain: Option<Vec<u8>>,
    ) {
        let mailbox = mailbox.unwrap_or_else(|| NO_MAILBOX.to_vec());
        let domain = domain.unwrap_or_else(|| NO_DOMAIN.to_vec());
        self.list.push(Address::Mailbox { name, route, mailbox, domain });
    }
}

#[derive(Default)]
struct Phrase {
    words: Vec<Vec<u8>>,
    comment: Option<Vec<u8>>,
    quoted: bool,
    /// A comment follows the first word.
    broken: bool,
    unclosed: Option<Unclosed>,
}

/// What takes the rest of the field with it.
#[derive(Clone, Copy, PartialEq)]
enum Unclosed {
    Quote,
    Comment,
}

impl Phrase {
    fn text(&self) -> Option<Vec<u8>> {
        let text = self.words.join(&b' ');
        (!text.is_empty()).then_some(text)
    }
}
