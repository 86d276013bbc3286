//! Every crate we link can be shipped under MIT OR Apache-2.0: permissive licences only.

use std::path::Path;
use std::process::Command;

/// SPDX names that put no condition on our own code.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

#[test]
fn all_dependencies_are_permissive() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let out = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--all-features", "--manifest-path"])
        .arg(manifest)
        .output()
        .expect("cargo metadata");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 10);
    let mut wrong = Vec::new();
    for package in packages {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or("none"));
        if !permits(licence) {
            wrong.push(format!("{name}: {licence}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether an SPDX expression can be met with permissive licences alone. `/` is an old way to write OR.
fn permits(expression: &str) -> bool {
    let text = expression.replace('/', " OR ");
    let text = text.trim();
    if let Some((left, right)) = split(text, " AND ") {
        return permits(left) && permits(right);
    }
    if let Some((left, right)) = split(text, " OR ") {
        return permits(left) || permits(right);
    }
    match text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        Some(inner) => permits(inner),
        None => PERMISSIVE.contains(&text),
    }
}

/// Splits at the first `operator` outside all brackets. Taking AND before OR is the strict reading of an expression that
/// mixes both without brackets: it may refuse a licence that would do, never accept one that does not.
fn split<'a>(text: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    let at = text.match_indices(operator).map(|(at, _)| at).find(|at| {
        let before = &text[..*at];
        before.matches('(').count() == before.matches(')').count()
    })?;
    Some((&text[..at], &text[at + operator.len()..]))
}

#[test]
fn expressions() {
    let table = [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("MPL-2.0", false),
        ("MIT OR LGPL-2.1-or-later", true),
        ("MIT AND LGPL-2.1-or-later", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND MPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0", true),
        ("none", false),
    ];
    for (expression, expected) in table {
        assert_eq!(permits(expression), expected, "{expression}");
    }
}
