//! The steps of each write's talk with the provider, and what may come of a fault there.

use crate::harness::trap::{Place, Point};

use Place::{After, Before, Middle};
use Point::{Answer, Command, Go, Octet, Told};

/// What may come of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It has been done upstream, or can be done after all without a doubt: the client is told OK.
    Done,
    /// Done or not, as the client is told.
    True,
    /// The network was away for a moment, so that nobody could look: a NO may leave open whether it was done, but must not say that it was
    /// not if it was.
    Open,
    /// Some of it is done and stays, and the client is told how much.
    InPart,
}
use Expect::{Done, InPart, True};

/// A step of the talk, by the words of its command.
pub type Step = (&'static str, Point, Place, Expect);

/// Up to the answer it has not been done; then it has. Between the two nobody can know.
pub const APPEND: &[Step] = &[
    ("APPEND ", Command, Before, True),
    ("APPEND ", Command, Middle, True),
    ("APPEND ", Command, After, True),
    ("APPEND ", Octet(1), Before, True),
    ("APPEND ", Octet(200), Before, True),
    ("APPEND ", Octet(500), After, True),
    ("APPEND ", Answer, Before, Done),
    ("APPEND ", Answer, Middle, Done),
    ("APPEND ", Answer, After, Done),
];
/// Several in one command: upstream gets them one by one, told apart by their flags. What was stored before the one that fails is taken back.
pub const MULTIAPPEND: &[Step] = &[
    ("APPEND ", Command, Before, True),
    ("APPEND ", Answer, Before, Done),
    ("(\\Answered", Command, Before, True),
    ("(\\Answered", Command, After, True),
    ("(\\Answered", Octet(200), Before, True),
    ("(\\Answered", Answer, Before, Done),
    ("(\\Answered", Answer, After, Done),
    ("(\\Draft", Command, Before, True),
    ("(\\Draft", Octet(500), After, True),
    ("(\\Draft", Answer, Before, Done),
    ("(\\Draft", Answer, After, Done),
];
/// Without UIDPLUS nothing can be taken back: what is stored is said, see [`super::stage::Stage::is_done`].
pub const MULTIAPPEND_BARE: &[Step] = &[
    ("APPEND ", Command, Before, True),
    ("APPEND ", Answer, Before, Done),
    ("(\\Answered", Command, Before, InPart),
    ("(\\Answered", Answer, Before, Done),
    ("(\\Draft", Octet(200), Before, InPart),
    ("(\\Draft", Answer, After, Done),
];
/// With a literal that waits to be asked for.
pub const APPEND_ASKING: &[Step] =
    &[("APPEND ", Go, Before, True), ("APPEND ", Go, Middle, True), ("APPEND ", Go, After, True)];
pub const COPY: &[Step] = &[
    ("UID COPY", Command, Before, True),
    ("UID COPY", Command, Middle, True),
    ("UID COPY", Command, After, True),
    ("UID COPY", Answer, Before, Done),
    ("UID COPY", Answer, Middle, Done),
    ("UID COPY", Answer, After, Done),
];
pub const MOVE: &[Step] = &[
    ("UID MOVE", Command, Before, True),
    ("UID MOVE", Command, Middle, True),
    ("UID MOVE", Command, After, True),
    ("UID MOVE", Told("COPYUID"), Before, Done),
    ("UID MOVE", Told("COPYUID"), Middle, Done),
    ("UID MOVE", Told("COPYUID"), After, Done),
    ("UID MOVE", Answer, Before, Done),
    ("UID MOVE", Answer, Middle, Done),
    ("UID MOVE", Answer, After, Done),
];
/// By a server that tells no UIDs.
pub const MOVE_UNTOLD: &[Step] = &[
    ("UID MOVE", Command, Before, True),
    ("UID MOVE", Command, Middle, True),
    ("UID MOVE", Command, After, True),
    ("UID MOVE", Told("EXPUNGE"), Before, Done),
    ("UID MOVE", Told("EXPUNGE"), Middle, Done),
    ("UID MOVE", Told("EXPUNGE"), After, Done),
    ("UID MOVE", Answer, Before, Done),
    ("UID MOVE", Answer, Middle, Done),
    ("UID MOVE", Answer, After, Done),
];
/// COPY, STORE and EXPUNGE, where there is no MOVE.
pub const MOVE_BY_COPY: &[Step] = &[
    ("UID COPY", Command, Before, True),
    ("UID COPY", Command, After, True),
    ("UID COPY", Answer, Before, True),
    ("UID COPY", Answer, Middle, True),
    ("UID COPY", Answer, After, True),
    ("+FLAGS (\\Deleted)", Command, Before, True),
    ("+FLAGS (\\Deleted)", Command, After, True),
    ("+FLAGS (\\Deleted)", Answer, Before, True),
    ("+FLAGS (\\Deleted)", Answer, Middle, True),
    ("+FLAGS (\\Deleted)", Answer, After, True),
    ("EXPUNGE", Command, Before, True),
    ("EXPUNGE", Command, After, True),
    ("EXPUNGE", Answer, Before, True),
    ("EXPUNGE", Answer, Middle, True),
    ("EXPUNGE", Answer, After, True),
];
pub const FLAG: &[Step] = &[
    ("UID STORE", Command, Before, Done),
    ("UID STORE", Command, Middle, Done),
    ("UID STORE", Command, After, Done),
    ("UID STORE", Told("FETCH"), Before, Done),
    ("UID STORE", Told("FETCH"), Middle, Done),
    ("UID STORE", Told("FETCH"), After, Done),
    ("UID STORE", Answer, Before, Done),
    ("UID STORE", Answer, Middle, Done),
    ("UID STORE", Answer, After, Done),
];
/// UID EXPUNGE with UIDPLUS.
pub const EXPUNGE: &[Step] = &[
    ("UID EXPUNGE", Command, Before, Done),
    ("UID EXPUNGE", Command, Middle, Done),
    ("UID EXPUNGE", Command, After, Done),
    ("UID EXPUNGE", Answer, Before, Done),
    ("UID EXPUNGE", Answer, Middle, Done),
    ("UID EXPUNGE", Answer, After, Done),
];
/// EXPUNGE takes all that is marked.
pub const EXPUNGE_BARE: &[Step] = &[
    ("SEARCH", Command, Before, Done),
    ("SEARCH", Answer, Before, Done),
    ("EXPUNGE", Command, Before, Done),
    ("EXPUNGE", Command, Middle, Done),
    ("EXPUNGE", Command, After, Done),
    ("EXPUNGE", Answer, Before, Done),
    ("EXPUNGE", Answer, Middle, Done),
    ("EXPUNGE", Answer, After, Done),
];
/// What is marked and not meant is spared for the moment.
pub const SPARING: &[Step] = &[
    ("-FLAGS (\\Deleted)", Command, Before, Done),
    ("-FLAGS (\\Deleted)", Command, After, Done),
    ("-FLAGS (\\Deleted)", Answer, Before, Done),
    ("-FLAGS (\\Deleted)", Answer, After, Done),
    ("+FLAGS (\\Deleted)", Command, Before, Done),
    ("+FLAGS (\\Deleted)", Command, After, Done),
    ("+FLAGS (\\Deleted)", Answer, Before, Done),
];
