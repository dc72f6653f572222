//! What a check finds, and how it is told.

use serde::Serialize;

use super::super::{Exit, Failure, Output, say};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Which check found it. Stable: programs may look for it.
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// What is.
    pub(super) what: String,
    /// What to do.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
    #[serde(skip)]
    exit: Option<Exit>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be; advice, where there is some, makes it better still.
    Ok,
    /// It works; somebody should look all the same.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be looked at, or does not concern this node.
    Skipped,
}

impl Finding {
    pub(super) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, what.into())
    }

    pub(super) fn warning(
        check: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Warning, what.into()).advise(advice)
    }

    pub(super) fn skipped(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skipped, what.into())
    }

    /// `exit` is the command's code where this is the first failure.
    pub(super) fn failed(
        check: &'static str,
        exit: Exit,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            exit: Some(exit),
            ..Self::new(check, Verdict::Failed, what.into()).advise(advice)
        }
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn new(check: &'static str, verdict: Verdict, what: String) -> Self {
        Self {
            check,
            verdict,
            what,
            advice: None,
            exit: None,
        }
    }

    fn table(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "WARNING",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "skipped",
        };
        let mut text = format!("{verdict:<8} {}: {}", self.check, self.what);
        if let Some(advice) = &self.advice {
            text.push_str(&format!("\n         -> {advice}"));
        }
        text
    }
}

/// Everything that was found. A table is told as it comes: a hub may keep one waiting.
pub(super) struct Report {
    output: Output,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            findings: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, findings: Vec<Finding>) -> Result<(), Failure> {
        if matches!(self.output, Output::Table) {
            for finding in &findings {
                say(finding.table())?;
            }
        }
        self.findings.extend(findings);
        Ok(())
    }

    /// Tells what is not told yet, and fails with the first failure's code.
    pub(super) fn end(self) -> Result<(), Failure> {
        super::super::print(&self.findings, self.output, |_| None)?;
        let mut failed = self.findings.iter().filter_map(|finding| finding.exit);
        match failed.next() {
            None => Ok(()),
            Some(exit) => Err(Failure::new(
                exit,
                format_args!(
                    "the agent cannot do all its work here ({} failed); see above",
                    failed.count() + 1
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_told_to_people_and_programs() {
        let finding = Finding::failed("swap", Exit::Usage, "it is on", "switch it off");
        assert_eq!(
            finding.table(),
            "FAILED   swap: it is on\n         -> switch it off"
        );
        assert_eq!(
            serde_json::to_value(&finding).unwrap(),
            serde_json::json!({
                "check": "swap", "verdict": "failed", "what": "it is on", "do": "switch it off"
            })
        );
    }

    #[test]
    fn warnings_are_no_failure_and_the_first_failure_decides() {
        let end = |findings: Vec<Finding>| {
            let report = Report {
                output: Output::Table,
                findings,
            };
            report.end().map_err(|failure| failure.exit)
        };
        let warning = Finding::warning("a", "b", "c");
        let failed = |exit| Finding::failed("a", exit, "b", "c");
        assert_eq!(
            end(vec![warning.clone(), Finding::skipped("a", "b")]),
            Ok(())
        );
        assert_eq!(
            end(vec![warning, failed(Exit::Denied), failed(Exit::Usage)]),
            Err(Exit::Denied)
        );
    }
}
