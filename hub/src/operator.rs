//! The operator's command line as it is typed: what `edge-secrets` parses, and what its man pages
//! and completions are made of. What the commands do is the program's own.

pub mod cli;
pub mod times;
