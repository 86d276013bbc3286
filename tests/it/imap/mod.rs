//! What a mail program sees, family by family, over Dovecot, the same Dovecot bare, Cyrus, and straight.

mod condstore;
mod fetch;
mod idle;
mod keywords;
mod list;
mod login;
mod moves;
mod names;
mod recent;
mod search;
mod select;
