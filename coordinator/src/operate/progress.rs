//! How far work with an image is, on a terminal.

use super::in_background;
use crate::image::{ImportError, ImportProgress, Stage};
use crate::print::Output;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::atomic::AtomicBool;

/// Does `work` [`in_background`] and shows what it tells of its progress.
///
/// # Errors
/// When it fails or is interrupted.
pub(super) async fn with_progress<T: Send + 'static>(
    output: Output,
    work: impl FnOnce(&mut dyn FnMut(ImportProgress), &AtomicBool) -> Result<T, ImportError> + Send + 'static,
) -> anyhow::Result<T> {
    let bar = if output == Output::Json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    bar.set_style(
        ProgressStyle::with_template(
            "{msg} [{bar:30}] {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left",
        )
        .expect("a valid template"),
    );
    in_background(move |stop| {
        let result = work(&mut |progress| show(&bar, &progress), stop);
        bar.finish_and_clear();
        Ok(result?)
    })
    .await
}

fn show(bar: &ProgressBar, progress: &ImportProgress) {
    bar.set_message(match progress.stage {
        Stage::Fetching => "fetching ",
        Stage::Checking => "checking ",
        Stage::Decoding => "unpacking",
        Stage::Packing => "packing  ",
    });
    bar.set_length(progress.total.unwrap_or(progress.done));
    bar.set_position(progress.done);
}
