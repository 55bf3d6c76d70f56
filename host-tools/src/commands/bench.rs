use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use resight_base::console::print_line;
use resight_runtime::{Isa, Model, Program, StepInfo, Target, ThreadPool, ThreadSettings};
use serde_json::json;

use super::{print_json, print_table};

/// Arguments of `resight bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight bench resnet50.resight.tar --threads 2 --layers")]
pub(crate) struct Arguments {
    /// The model file.
    model: PathBuf,
    /// Threads to spread every layer over.
    #[arg(long, default_value = "1", value_name = "N")]
    threads: NonZeroUsize,
    /// Bind each thread to a core, the fastest cores first.
    #[arg(long)]
    pin: bool,
    /// Force an instruction set instead of the best one of this CPU.
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Timed runs.
    #[arg(long, default_value_t = 50, value_name = "N")]
    runs: usize,
    /// Show the time of each layer.
    #[arg(long)]
    layers: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The defaults with this file.
    pub(crate) fn new(model: PathBuf) -> Self {
        Self {
            model,
            threads: NonZeroUsize::MIN,
            pin: false,
            isa: None,
            runs: 50,
            layers: false,
            json: false,
        }
    }

    pub(crate) fn run(self) -> Result<()> {
        ensure!((1..=1_000_000).contains(&self.runs), "--runs must be between 1 and 1000000");
        let target = match &self.isa {
            Some(name) => Target::of_this_machine()?.with_isa(Isa::select(Some(name))?),
            None => Target::of_this_machine()?,
        };
        let isa = target.isa;
        let model = Model::load(&self.model)?;
        let pool = ThreadPool::new(ThreadSettings { threads: Some(self.threads), pin: self.pin })?;
        let mut program = model.compile(&target.with_threads(self.threads.get()))?;
        let measured = Measured::new(&mut program, &pool, self.runs, self.layers)?;
        if self.json {
            return self.print_json(&model, isa, &measured);
        }
        if self.layers {
            measured.print_layers()?;
            print_line(format_args!(""))?;
        }
        print_line(format_args!(
            "{}: median {:.2} ms, minimum {:.2}, 10 % to 90 % {:.2} to {:.2}; {:.1} GMAC/s, {} thread{}, {isa}, {} runs",
            model.name(),
            measured.at(0.5),
            measured.at(0.0),
            measured.at(0.1),
            measured.at(0.9),
            measured.gmac_per_second(),
            self.threads,
            if self.threads.get() == 1 { "" } else { "s" },
            self.runs
        ))?;
        Ok(())
    }

    fn print_json(&self, model: &Model, isa: Isa, measured: &Measured) -> Result<()> {
        let layers = measured.steps.iter().zip(&measured.layer_ms).filter(|_| self.layers);
        let layers: Vec<_> = layers
            .map(
                |(step, ms)| json!({ "name": step.name, "kernel": step.kernel, "macs": step.macs, "ms": ms }),
            )
            .collect();
        print_json(&json!({
            "model": model.name(),
            "isa": isa.name(),
            "threads": self.threads,
            "runs": self.runs,
            "median_ms": measured.at(0.5),
            "minimum_ms": measured.at(0.0),
            "p10_ms": measured.at(0.1),
            "p90_ms": measured.at(0.9),
            "gmac_per_second": measured.gmac_per_second(),
            "layers": layers,
        }))
    }
}

/// What the runs took.
struct Measured {
    steps: Vec<StepInfo>,
    /// Milliseconds of each run, the shortest first.
    times: Vec<f64>,
    /// Mean milliseconds of each step; 0 if layers were not asked for.
    layer_ms: Vec<f64>,
}

impl Measured {
    fn new(program: &mut Program, pool: &ThreadPool, runs: usize, with_layers: bool) -> Result<Self> {
        let input: Vec<i8> =
            (0..program.input_shape().iter().product()).map(|i: usize| (i * 37 % 251) as u8 as i8).collect();
        // Warm until the clock and the caches have settled: three runs or half a second.
        let warm = Instant::now();
        let mut warm_runs = 0;
        while warm_runs < 3 || warm.elapsed() < Duration::from_millis(500) {
            pool.install(|| program.run(pool, &input).map(|_| ()))?;
            warm_runs += 1;
            if warm.elapsed() > Duration::from_secs(5) {
                break;
            }
        }
        let mut times = Vec::with_capacity(runs);
        let steps = program.steps();
        let mut layers = vec![0u64; steps.len()];
        for _ in 0..runs {
            let start = Instant::now();
            if with_layers {
                pool.install(|| program.run_timed(pool, &input, &mut layers).map(|_| ()))?;
            } else {
                pool.install(|| program.run(pool, &input).map(|_| ()))?;
            }
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let layer_ms = layers.iter().map(|&ns| ns as f64 / 1e6 / runs as f64).collect();
        Ok(Self { steps, times, layer_ms })
    }

    /// Milliseconds that this share of the runs kept within.
    fn at(&self, share: f64) -> f64 {
        self.times[((self.times.len() - 1) as f64 * share).round() as usize]
    }

    fn gmac_per_second(&self) -> f64 {
        let macs: u64 = self.steps.iter().map(|step| step.macs).sum();
        macs as f64 / self.at(0.5) / 1e6
    }

    fn print_layers(&self) -> Result<()> {
        let total: f64 = self.layer_ms.iter().sum();
        let row = |(step, ms): (&StepInfo, &f64)| {
            let rate =
                if step.macs > 0 { format!("{:.1}", step.macs as f64 / ms / 1e6) } else { String::new() };
            vec![
                step.name.clone(),
                step.operator.clone(),
                format!("{ms:.3}"),
                format!("{:.1}", ms / total * 100.0),
                rate,
                step.kernel.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = self.steps.iter().zip(&self.layer_ms).map(row).collect();
        print_table(&["layer", "operator", "ms", "%", "GMAC/s", "kernel"], &rows)
    }
}
