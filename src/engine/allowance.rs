//! What the account may still fetch and send: asked before anything big goes over the wire (Law 6).
//!
//! The engine knows what it is about to ask for and how big it is; whether that is within the day's allowance is known above. A
//! [`Grant`] only sets octets aside: what is counted is what upstream's sessions really read and wrote.

use std::fmt;

use super::error::Error;
use crate::upstream::Class;

/// Octets set aside; to be dropped when they have gone over the wire, or will not.
pub type Grant = Box<dyn Send + Sync>;

/// Says whether something may be fetched or sent now. Called with short locks held: must not block.
pub trait Allowance: fmt::Debug + Send + Sync {
    /// Before a download of about so many octets; [`Error::Limit`] with words for a reader when it is not to be.
    fn download(&self, octets: u64, class: Class) -> Result<Grant, Error>;

    /// The same before an upload, which somebody always waits for.
    fn upload(&self, octets: u64) -> Result<Grant, Error>;

    /// Whether so much of the day is spent that the mirror is to be kept in step slowly.
    fn is_slow(&self) -> bool {
        false
    }

    /// What somebody was refused lately and would be again, in words for a reader.
    fn notice(&self) -> Option<String> {
        None
    }
}

/// No limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Allowance for Unlimited {
    fn download(&self, _: u64, _: Class) -> Result<Grant, Error> {
        Ok(Box::new(()))
    }

    fn upload(&self, _: u64) -> Result<Grant, Error> {
        Ok(Box::new(()))
    }
}
