//! Percentiles, and the table.

use std::fmt;
use std::time::Duration;

/// Durations in microseconds; negative where the later event came first.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration.as_secs_f64() * 1e6);
    }

    pub(crate) fn add_micros(&mut self, micros: f64) {
        self.0.push(micros);
    }

    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent) / 1000.0;
        f.pad(&format!("p50 {:.3} ms, p99 {:.3} ms", ms(50), ms(99)))
    }
}

/// What is printed at the end. Rows are shown when they are known, too: a bench takes minutes.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<[String; 4]>);

impl Table {
    pub(crate) fn row(&mut self, what: &str, samples: &Samples, target: &str, floor: &str) {
        self.text(what, &samples.to_string(), target, floor);
    }

    pub(crate) fn text(&mut self, what: &str, measured: &str, target: &str, floor: &str) {
        eprintln!("{what}: {measured}");
        self.0
            .push([what.into(), measured.into(), target.into(), floor.into()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "measured", "reach", "floor"].map(str::to_owned);
        let rows = || std::iter::once(&head).chain(&self.0);
        let widths: [usize; 4] =
            std::array::from_fn(|n| rows().map(|row| row[n].chars().count()).max().unwrap_or(0));
        for (n, row) in rows().enumerate() {
            let cells = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "| {} |", cells.collect::<Vec<_>>().join(" | "))?;
            if n == 0 {
                let lines = widths.map(|width| "-".repeat(width + 2));
                writeln!(f, "|{}|", lines.join("|"))?;
            }
        }
        Ok(())
    }
}
