//! The last 24 hours as a chart, and the same as a table.

use std::fmt::Write as _;

use super::html::size;
use crate::daemon::status::{Hour, octets};

/// Units of the drawing: ten an hour, and a hundred high. It is stretched to its place.
const STEP: usize = 10;
const BAR: usize = 7;
const HEIGHT: f64 = 100.0;
/// What the smallest amount that is not nothing is drawn as.
const LEAST: f64 = 1.5;

/// Received above a line, sent below it, on the same scale.
pub(super) fn chart(hours: &[Hour]) -> String {
    let most = |of: fn(&Hour) -> u64| hours.iter().map(of).max().unwrap_or(0);
    let (down, up) = (most(|hour| hour.downloaded), most(|hour| hour.uploaded));
    let sum = |of: fn(&Hour) -> u64| hours.iter().map(of).fold(0, u64::saturating_add);
    let (received, sent) = (sum(|hour| hour.downloaded), sum(|hour| hour.uploaded));
    if received == 0 && sent == 0 {
        return "<p class=\"empty\">Nothing has gone over the wire in the last 24 hours.</p>".into();
    }
    let scale = HEIGHT / (down as f64 + up as f64);
    // Both keep some room, however small the other is.
    let line = (down as f64 * scale).clamp(LEAST, HEIGHT - LEAST);
    let height = |value: u64, room: f64| if value == 0 { 0.0 } else { (value as f64 * scale).clamp(LEAST, room) };
    let mut bars = String::new();
    for (at, hour) in hours.iter().enumerate() {
        let x = at * STEP + (STEP - BAR) / 2;
        // So that a quiet day has its hours too.
        let _ = write!(bars, "<rect class=\"slot\" x=\"{x}\" y=\"0\" width=\"{BAR}\" height=\"100\"/>");
        let (above, below) = (height(hour.downloaded, line), height(hour.uploaded, HEIGHT - line));
        // Writing to a String does not fail, here and below.
        if above > 0.0 {
            let y = line - above;
            let _ = write!(bars, "<rect class=\"down\" x=\"{x}\" y=\"{y:.1}\" width=\"{BAR}\" height=\"{above:.1}\"/>");
        }
        if below > 0.0 {
            let _ =
                write!(bars, "<rect class=\"up\" x=\"{x}\" y=\"{line:.1}\" width=\"{BAR}\" height=\"{below:.1}\"/>");
        }
    }
    let peak = hours.iter().enumerate().max_by_key(|(_, hour)| hour.downloaded.saturating_add(hour.uploaded));
    let (at, hour) = peak.unwrap_or((0, &hours[0]));
    let peak = format!("{} {}", octets(hour.downloaded.saturating_add(hour.uploaded)), when(hours.len(), at));
    let words = format!(
        "Bars for 24 hours. Received {}, sent {}; the most in one hour was {peak}.",
        octets(received),
        octets(sent)
    );
    format!(
        "<div class=\"chart\"><svg viewBox=\"0 0 {width} 100\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{words}\">{bars}<line x1=\"0\" x2=\"{width}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/></svg>\
         <div class=\"axis\" aria-hidden=\"true\"><span>24 h ago</span><span>12 h ago</span><span>now</span></div></div>\
         <p class=\"legend\"><span class=\"key down\"><b aria-hidden=\"true\">▲</b> received {down}</span> \
         <span class=\"key up\"><b aria-hidden=\"true\">▼</b> sent {up}</span> \
         <span>at most {peak}</span></p>",
        width = hours.len() * STEP,
        down = size(received),
        up = size(sent),
    )
}

/// The same figures, the newest first.
pub(super) fn table(hours: &[Hour]) -> String {
    let mut rows = String::new();
    for (at, hour) in hours.iter().enumerate().rev() {
        let (down, up) = (size(hour.downloaded), size(hour.uploaded));
        let _ = write!(rows, "<tr><th scope=\"row\">{}</th><td>{down}</td><td>{up}</td></tr>", when(hours.len(), at));
    }
    format!(
        "<table class=\"numbers\"><thead><tr><th scope=\"col\">Hour</th><th scope=\"col\">Received</th>\
         <th scope=\"col\">Sent</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

/// Which hour of `all` this is. Of no time zone, so that it is right for whoever looks from wherever.
fn when(all: usize, at: usize) -> String {
    match all.saturating_sub(at) {
        0 | 1 => "in the last hour".into(),
        hours => format!("{} to {hours} h ago", hours - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_scale_and_in_words() {
        let mut hours = vec![Hour::default(); 24];
        assert!(chart(&hours).contains("Nothing has gone"));
        hours[23] = Hour { downloaded: 3_000_000, uploaded: 1_000_000 };
        hours[0] = Hour { downloaded: 1, uploaded: 0 };
        let drawn = chart(&hours);
        assert_eq!(drawn.matches("class=\"down\" x").count(), 2, "{drawn}");
        assert!(drawn.contains("x=\"231\" y=\"0.0\" width=\"7\" height=\"75.0\""), "{drawn}");
        assert!(drawn.contains("x=\"231\" y=\"75.0\" width=\"7\" height=\"25.0\""), "{drawn}");
        assert!(drawn.contains("y=\"73.5\" width=\"7\" height=\"1.5\""), "what is little is seen: {drawn}");
        assert!(drawn.contains("the most in one hour was 4.0 MB in the last hour"), "{drawn}");
        let rows = table(&hours);
        assert_eq!(rows.matches("<tr>").count(), 25);
        assert!(rows.contains("23 to 24 h ago"));
        // Nobody draws outside his place.
        for (down, up) in [(u64::MAX, u64::MAX), (0, 1), (1, 0), (u64::MAX, 1)] {
            let drawn = chart(&[Hour { downloaded: down, uploaded: up }]);
            assert!(!drawn.contains("NaN") && !drawn.contains("inf") && !drawn.contains("\"-"), "{drawn}");
        }
    }
}
