//! Named oddities of providers: each a fact with a date and a source.
//!
//! Some are asked for by name where they make a difference. Others are met by what is done for every provider, and stand here because they
//! are why it is done so, and so that the simulated provider has them: AppendDeduplicates, DeletedExpungesAtOnce, SizeEstimated, NoPartialFetch,
//! NoCustomKeywords, IdAfterLogin, IdRefusesEmpty, ByeRepeats, EnableNotConfirmed, Rfc822ItemsMissing. No scenario has yet DeletedExpungesAtOnce, a
//! wrong COPYUID or an APPEND that loses `\Flagged`; SizeEstimated is met by POP3, which counts, and not by IMAP's RFC822.SIZE.
//!
//! A quirk is a claim about a server we do not run, so it says where it was seen. Sources: MK = MailKit's recorded
//! transcripts, `MK#n` = its issues; FE = FairEmail's FAQ and provider list; isync = isync's FAQ pages; MSS = server captures of
//! Mailspring's sync engine, September 2026; PS = Microsoft's Set-ImapSettings and Set-CASMailbox pages. All read in November 2026.

use serde::Deserialize;

/// One oddity. In `config/providers.toml` it is written in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// Folders are labels: one message shows in several folders under several UIDs and one X-GM-MSGID, so it is stored once;
    /// expunging it in one folder only takes that label off. (Gmail; Google's IMAP extensions page.)
    Labels,
    /// The SMTP server puts a copy into the sent folder itself, with delay: a client's own APPEND of the same Message-ID would
    /// make a second. (Gmail: isync, FE. Outlook: MSS, FE, 2 to 4 copies seen.)
    SavesSentCopy,
    /// APPEND of a message the account already holds answers OK and may create nothing new: match by Message-ID. (Gmail; isync.)
    AppendDeduplicates,
    /// `\Deleted` acts at once when the account's auto-expunge is on (the default); an EXPUNGE may follow the STORE. (Gmail; Gmail
    /// API's ImapSettings.)
    DeletedExpungesAtOnce,
    /// BODYSTRUCTURE cannot be believed, so it is always computed from the message. (Gmail: nested multiparts lose their children,
    /// MK#205, #777, #1841. Mail.ru: sizes as floats, MK#1838, #1840. Yandex: empty multipart, MK#1861. Outlook: MailKit's tests.)
    StructureWrong,
    /// RFC822.SIZE is an estimate; only the length of the message itself is true. (Outlook; PS, 19189 announced for 6298 seen.)
    SizeEstimated,
    /// `BODY[]<o.n>` gives wrong bytes: fetch whole. (Outlook; FE.)
    NoPartialFetch,
    /// `\Flagged` given with APPEND is lost: STORE it afterwards. (Outlook; isync's FAQ on Office365.)
    AppendLosesFlagged,
    /// PERMANENTFLAGS has no `\*`: other keywords live in our own store. (Outlook: OfflineIMAP issue 62. Mail.ru: a capture, 2026.)
    NoCustomKeywords,
    /// COPYUID of several messages pairs them wrongly, or is malformed: look before believing. (Yahoo: MK#1405, MSS. Outlook:
    /// unverified.)
    CopyuidUnreliable,
    /// Move one UID per command; pairs of single moves are right. (Yahoo; MK#1405, MSS.)
    MoveOneAtATime,
    /// An APPENDed message must end with CRLF or the command is refused. (Yahoo; imapsync issue 209.)
    AppendNeedsCrlfEnd,
    /// IDLE tells of new mail and flags, not of expunges: count as well, at a pace that follows use, and compare sets where the count
    /// differs. (Yahoo; Yahoo's Sender Hub.)
    ExpungeNotPushed,
    /// SELECT shows only the newest 10 000 messages and a SEARCH answers at most 1000, unless UIDONLY is enabled. (Yahoo; export
    /// notes of May 2026.)
    SelectShowsNewestOnly,
    /// ID should be sent after login. (Yahoo, Gmail: clients' practice.)
    IdAfterLogin,
    /// An empty `ID ()` is refused: send a name or nothing. (Outlook; modern-email/defects 13.)
    IdRefusesEmpty,
    /// No IDLE (`BAD [CLIENTBUG]`): poll with NOOP every 10 to 15 s on the selected mailbox. (Mail.ru; chatmail/core 1868.) What the
    /// server's CAPABILITY says after login still decides.
    NoIdle,
    /// AUTHENTICATE with an initial response is a syntax error: wait for the continuation. (Yandex; a public test's recording.)
    NoSaslIr,
    /// `BODY[section]` can come back without data: fetch the whole message instead. (Yandex; MK#1997.)
    SectionMayBeEmpty,
    /// SEARCH gives too much, too little or fails: decide locally, or use UID FETCH of ranges. (Yandex: defects 47, isync. Outlook: FE.
    /// Yahoo: FE.)
    SearchUnreliable,
    /// After an idle time-out `* BYE` repeats without end: close at the first. (Yandex; MK#938.)
    ByeRepeats,
    /// While sending is blocked because of the day's limit, every attempt begins the 24 hours anew: send nothing at all. (Yandex; its help on
    /// sending many letters.)
    SendBlockRestarts,
    /// ENABLE takes effect without an untagged ENABLED. (iCloud; imapflow.)
    EnableNotConfirmed,
    /// VANISHED comes malformed: leave QRESYNC off. (iCloud; imapflow.)
    QresyncBroken,
    /// The old RFC822 items go unanswered: ask for BODY[] items. (iCloud; imap-codec's quirk list.)
    Rfc822ItemsMissing,
    /// The IMAP4rev2 the new front end announces is broken (LSUB answers BAD): never ENABLE it. (Microsoft, from September 2026;
    /// MK#2016, imapflow.)
    NoImap4rev2,
}
