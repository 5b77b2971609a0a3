//! Speed and memory of a model on this machine, with the machine's limits and the forecast.

mod args;
mod measured;
mod passes;
mod report;
mod spread;

pub(crate) use self::args::BenchArgs;
use self::measured::Measuring;
use self::report::Benched;
use crate::args::device::DeviceArgs;
use crate::forecast::instruction_set;
use crate::memory::anonymous_bytes;
use crate::{fingerprints, model, output, progress};

impl BenchArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        fingerprints::keep_none();
        let device = DeviceArgs::default().open()?;
        let checkpoint = model::open(&self.model)?;
        self.check(&checkpoint)?;
        self.expect_memory(&checkpoint, anonymous_bytes())?;
        let instruction_set = instruction_set()?;
        let progress = progress::begin("measuring", self.n_passes(), "passes");
        let measuring =
            Measuring { args: &self, checkpoint: &checkpoint, device, progress: &progress };
        let measured = measuring.all()?;
        progress.finish();
        let benched = Benched::new(&self, &checkpoint, &measured, instruction_set);
        if self.json { output::json(&benched) } else { benched.print() }
    }
}
