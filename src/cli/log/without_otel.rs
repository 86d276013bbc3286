//! In place of `otel` in a program built without that feature: says so where the configuration wants it.

use super::BoxedLayer;
use crate::config::Otel;
use crate::metrics::AccountLabels;

/// There is none.
pub(crate) enum Export {}

impl Export {
    pub(crate) async fn flush(self) {
        match self {}
    }
}

pub(super) fn begin(_: &Otel, _: AccountLabels) -> Result<(BoxedLayer, Export), String> {
    Err("this mailweir was built without OpenTelemetry; build it with `cargo build --release --features otel`, or take the table out".into())
}
