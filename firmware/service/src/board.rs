//! What board this is: for `bench`, `doctor` and the status.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use resight_imaging::{ImageView, Preprocessor, Region};
use resight_kernels::Parallel as _;
use resight_runtime::{Isa, Model, Target, ThreadPool, ThreadSettings, isa_from_environment};

use crate::camera::{self, Wanted};
use crate::lines;

/// Above this, boards begin to lower their clocks, degrees Celsius.
const HOT: f64 = 80.0;

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_matches(['\0', '\n', ' ']).to_owned())
}

fn entries(folder: impl AsRef<Path>, prefix: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut found: Vec<PathBuf> = paths.filter(named).collect();
    found.sort();
    found
}

/// The hottest thermal zone, degrees Celsius.
pub(crate) fn temperature() -> Option<f64> {
    let zones = entries("/sys/class/thermal", "thermal_zone");
    let read = |zone: PathBuf| read(zone.join("temp"))?.parse::<f64>().ok().map(|milli| milli / 1e3);
    zones.into_iter().filter_map(read).max_by(f64::total_cmp)
}

/// The present clock of the fastest core, MHz.
fn clock() -> Option<u64> {
    let cores = entries("/sys/devices/system/cpu", "cpu");
    let read = |core: PathBuf| read(core.join("cpufreq/scaling_cur_freq"))?.parse::<u64>().ok();
    cores.into_iter().filter_map(read).max().map(|kilohertz| kilohertz / 1000)
}

/// A state that keeps the processor from its full speed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Throttling {
    state: String,
    remedy: &'static str,
}

const SUPPLY: &str = "use the supply that is made for this board, and a short cable";
const HEAT: &str = "add a heat sink or a fan";

/// What keeps the processor from its full speed now, or did since it was switched on: the kernel's
/// cooling, and on a Raspberry Pi the firmware's. `None` where neither can be asked. `root` is `/`.
fn throttling(root: &Path) -> Option<Vec<Throttling>> {
    let kernel = cooling(root);
    let firmware = firmware_states(root);
    let is_raspberry_pi =
        read(root.join("proc/device-tree/model")).is_some_and(|model| model.contains("Raspberry Pi"));
    // There the firmware lowers the clock, whatever the kernel says of its own cooling.
    let can_be_told = firmware.is_some() || kernel.is_some() && !is_raspberry_pi;
    let found: Vec<Throttling> = kernel.into_iter().chain(firmware).flatten().collect();
    (can_be_told || !found.is_empty()).then_some(found)
}

/// The kernel's cooling of the processor; `None` if it has none.
fn cooling(root: &Path) -> Option<Vec<Throttling>> {
    let mut found = None;
    for device in entries(root.join("sys/class/thermal"), "cooling_device") {
        let number = |name: &str| read(device.join(name))?.parse::<u64>().ok();
        let kind = read(device.join("type")).unwrap_or_default();
        let Some(now) = number("cur_state").filter(|_| kind.contains("cpufreq")) else { continue };
        let states: &mut Vec<Throttling> = found.get_or_insert_default();
        if now > 0 {
            let most = number("max_state").map_or_else(String::new, |most| format!(" of {most}"));
            let state = format!("the kernel lowers the clock because of heat ({kind}: {now}{most})");
            states.push(Throttling { state, remedy: HEAT });
        }
    }
    found
}

/// What the firmware of a Raspberry Pi says; `None` if it cannot be asked.
///
/// The vendor's kernel has the bits of the firmware as an attribute of the firmware's device, whose
/// place differs from model to model. Others have the hardware monitor `rpi_volt`, which knows the
/// supply alone.
fn firmware_states(root: &Path) -> Option<Vec<Throttling>> {
    let driver = entries(root.join("sys/bus/platform/drivers/raspberrypi-firmware"), "");
    let usual = root.join("sys/devices/platform/soc/soc:firmware");
    let text = driver.into_iter().chain([usual]).find_map(|device| read(device.join("get_throttled")));
    // As a number in hexadecimal digits, with or without 0x.
    let bits = text.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let Some(bits) = bits else { return supply_alarm(root) };
    let mut found = vec![];
    for (bit, what, how, remedy) in [
        (0, "the supply voltage", "too low", SUPPLY),
        (1, "the clock", "capped by the firmware", HEAT),
        (2, "the clock", "lowered by the firmware", HEAT),
        (3, "the temperature", "at the firmware's soft limit", HEAT),
    ] {
        let is = |bit: u32| bits & (1 << bit) != 0;
        if is(bit) {
            found.push(Throttling { state: format!("{what} is {how}"), remedy });
        } else if is(bit + 16) {
            let state = format!("{what} was {how} since the board was switched on");
            found.push(Throttling { state, remedy });
        }
    }
    Some(found)
}

/// The hardware monitor's word of the supply voltage; `None` if there is no such monitor.
fn supply_alarm(root: &Path) -> Option<Vec<Throttling>> {
    let monitors = entries(root.join("sys/class/hwmon"), "hwmon");
    let volt = monitors.iter().find(|path| read(path.join("name")).as_deref() == Some("rpi_volt"))?;
    let is_low = match read(volt.join("in0_lcrit_alarm"))?.as_str() {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let state = "the supply voltage is too low, or was a moment ago".to_owned();
    Some(if is_low { vec![Throttling { state, remedy: SUPPLY }] } else { vec![] })
}

fn or_unknown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "unknown".into())
}

/// Where the threads run, if they are bound to cores.
fn on_cores(pool: &ThreadPool) -> String {
    let cores: Vec<String> = pool.cores().iter().map(ToString::to_string).collect();
    if cores.is_empty() { String::new() } else { format!(", on cores {}", cores.join(" ")) }
}

/// The most memory that this process had resident since it began, in bytes.
fn peak_memory() -> Option<u64> {
    let status = read("/proc/self/status")?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Times the network alone and preprocessing of a 640x480 image.
///
/// # Errors
/// A model that cannot be used.
pub(crate) fn bench(file: &Path, threads: ThreadSettings, runs: usize) -> Result<String> {
    ensure!(runs > 0, "--runs must be at least 1");
    let model = Model::load(file)?;
    let target = Target::of_this_machine()?;
    let isa = target.isa;
    let pool = ThreadPool::new(threads)?;
    let mut program = model.compile(&target.with_threads(pool.threads()))?;
    pool.install(|| model.self_test(&mut program, &pool))?;
    let mut preprocessor = Preprocessor::new(model.preprocessing())?;
    let mut input = vec![0; preprocessor.input_len()];
    let (width, height) = (640u32, 480u32);
    let image: Vec<u8> = (0..width * height * 3).map(|index| (index % 251) as u8).collect();
    let (mut network, mut preparing) = (vec![], vec![]);
    for _ in 0..runs {
        let start = Instant::now();
        preprocessor.quantise(&ImageView::rgb(&image, [height, width])?, &mut input)?;
        preparing.push(start.elapsed());
        let start = Instant::now();
        pool.install(|| program.run(&pool, &input).map(|_| ()))?;
        network.push(start.elapsed());
    }
    let times = |mut times: Vec<Duration>| {
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        format!("{:.3} ms median, {:.3} ms best", ms(times[times.len() / 2]), ms(times[0]))
    };
    Ok(format!(
        "network        {}\npreprocessing  {} (640x480)\nthreads        {}{}\nkernels        {isa}\n\
         memory         {}\ntemperature    {}\nclock          {}\n",
        times(network),
        times(preparing),
        pool.threads(),
        on_cores(&pool),
        or_unknown(peak_memory().map(|bytes| format!("{:.1} MB at most", bytes as f64 / 1e6))),
        or_unknown(temperature().map(|celsius| format!("{celsius:.1} °C"))),
        or_unknown(clock().map(|megahertz| format!("{megahertz} MHz"))),
    ))
}

/// Describes the board, and for each problem what to do about it. `false` with any problem.
pub(crate) fn doctor() -> (String, bool) {
    let mut lines = vec![];
    let mut problems = vec![];
    let model = read("/proc/device-tree/model").or_else(|| read("/sys/class/dmi/id/product_name"));
    lines.push(format!("board         {}", or_unknown(model)));
    lines.push(format!("processor     {}", processor()));
    let available = Isa::available().map(Isa::name).collect::<Vec<_>>().join(", ");
    match isa_from_environment() {
        Ok(isa) => {
            lines.push(format!("kernels       {isa} (of {available})"));
            lines.extend(isa.kernels().map(|(kernel, layers)| format!("              {kernel}: {layers}")));
        }
        Err(error) => {
            lines.push(format!("kernels       none (of {available})"));
            problems.push(error.to_string());
        }
    }
    if cfg!(target_arch = "aarch64") && !Isa::NeonDot.is_available() {
        problems
            .push("this processor has no dot product: expect a fourth of the speed of a Cortex-A76".into());
    }
    match ThreadPool::new(ThreadSettings::default()) {
        Ok(pool) => lines.push(format!("threads       {} by default{}", pool.threads(), on_cores(&pool))),
        Err(error) => problems.push(error.to_string()),
    }
    let celsius = temperature();
    lines.push(format!("temperature   {}", or_unknown(celsius.map(|celsius| format!("{celsius:.1} °C")))));
    if celsius.is_some_and(|celsius| celsius >= HOT) {
        problems.push(format!("at {HOT} °C and more boards lower their clocks: add a heat sink or a fan"));
    }
    let throttled = throttling(Path::new("/"));
    lines.push(format!(
        "throttling    {}",
        match throttled.as_deref() {
            None => "unknown: neither the kernel nor the firmware can be asked here".to_owned(),
            Some([]) => "none seen".to_owned(),
            Some(states) => states.iter().map(|found| found.state.as_str()).collect::<Vec<_>>().join("; "),
        }
    ));
    problems
        .extend(throttled.into_iter().flatten().map(|found| format!("{}: {}", found.state, found.remedy)));
    lines.push(format!("clock         {}", or_unknown(clock().map(|megahertz| format!("{megahertz} MHz")))));
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    lines.push(format!("governor      {}", or_unknown(governor.clone())));
    if governor.as_deref() == Some("powersave") {
        problems.push(
            "the clock governor is powersave: write `performance` or `schedutil` to \
             /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
                .into(),
        );
    }
    let chips = entries("/dev", "gpiochip");
    if chips.is_empty() {
        lines.push("GPIO chips    none".into());
        problems.push(lines::NONE.into());
    }
    let labels = lines::chips();
    for chip in &chips {
        let label = labels.iter().find(|other| other.path == *chip).map(|other| other.label.as_str());
        lines.push(format!("GPIO chip     {} {}", chip.display(), label.unwrap_or("(cannot be opened)")));
        permission(chip, "gpio", &mut problems);
    }
    for registers in entries("/dev", "gpiomem") {
        lines.push(format!("registers     {}", registers.display()));
        permission(&registers, "gpio", &mut problems);
    }
    let (cameras, camera_problems) = camera::doctor(Wanted::new(256, Region::WHOLE));
    lines.extend(cameras);
    problems.extend(camera_problems);
    let healthy = problems.is_empty();
    lines.extend(problems.into_iter().map(|problem| format!("problem: {problem}")));
    (lines.join("\n") + "\n", healthy)
}

fn permission(device: &Path, group: &str, problems: &mut Vec<String>) {
    if let Err(error) = File::options().read(true).write(true).open(device) {
        let device = device.display();
        problems.push(format!(
            "{device} cannot be opened: {error}; add the user to its group with \
             `usermod -a -G {group} USER`, or see who holds it with `fuser -v {device}`"
        ));
    }
}

fn processor() -> String {
    let text = read("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let cores = text.lines().filter(|line| line.starts_with("processor")).count();
    let arm = value("CPU part").map(|part| {
        let known = [
            ("0xd03", "Cortex-A53"),
            ("0xd05", "Cortex-A55"),
            ("0xd07", "Cortex-A57"),
            ("0xd08", "Cortex-A72"),
            ("0xd0b", "Cortex-A76"),
            ("0xd42", "Cortex-A78AE"),
        ];
        known.iter().find(|(other, _)| *other == part).map_or(part, |(_, name)| (*name).to_owned())
    });
    format!("{cores} x {}", or_unknown(value("model name").or(arm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board whose files a test writes.
    struct Board(tempfile::TempDir);

    impl Board {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn found(&self) -> Option<Vec<String>> {
            Some(throttling(self.0.path())?.into_iter().map(|found| found.state).collect())
        }
    }

    #[test]
    fn what_the_kernel_lowers_is_seen() {
        let board = Board::new();
        assert_eq!(board.found(), None);
        for (index, kind, state) in [(0, "pwm-fan", "3"), (1, "cpufreq-cpu0", "0")] {
            let folder = format!("sys/class/thermal/cooling_device{index}");
            board.write(&format!("{folder}/type"), kind);
            board.write(&format!("{folder}/cur_state"), state);
            board.write(&format!("{folder}/max_state"), "8\n");
        }
        assert_eq!(board.found(), Some(vec![]));
        board.write("sys/class/thermal/cooling_device1/cur_state", "2\n");
        let lowered = "the kernel lowers the clock because of heat (cpufreq-cpu0: 2 of 8)";
        assert_eq!(board.found(), Some(vec![lowered.to_owned()]));
    }

    /// The attribute lies elsewhere on each model; the driver's folder leads to it.
    #[test]
    fn the_firmware_is_asked_wherever_its_device_is() {
        for device in [
            "sys/devices/platform/soc/soc:firmware",
            "sys/bus/platform/drivers/raspberrypi-firmware/soc@1:firmware",
        ] {
            let board = Board::new();
            for (bits, expected) in [
                ("0\n", Some(vec![])),
                (
                    "50005\n",
                    Some(vec!["the supply voltage is too low", "the clock is lowered by the firmware"]),
                ),
                ("0x10000", Some(vec!["the supply voltage was too low since the board was switched on"])),
                (
                    "20008",
                    Some(vec![
                        "the clock was capped by the firmware since the board was switched on",
                        "the temperature is at the firmware's soft limit",
                    ]),
                ),
                ("rubbish", None),
            ] {
                board.write(&format!("{device}/get_throttled"), bits);
                let expected: Option<Vec<String>> =
                    expected.map(|states| states.into_iter().map(str::to_owned).collect());
                assert_eq!(board.found(), expected, "{bits}");
            }
        }
    }

    #[test]
    fn without_the_firmwares_bits_the_monitor_of_the_supply_tells_or_nobody() {
        let board = Board::new();
        board.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0");
        board.write("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0");
        board.write("sys/class/thermal/cooling_device0/cur_state", "0");
        assert_eq!(board.found(), None, "the kernel does not know what the firmware does");
        board.write("sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
        board.write("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        board.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
        assert_eq!(board.found(), Some(vec![]));
        board.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        assert_eq!(board.found().unwrap(), ["the supply voltage is too low, or was a moment ago"]);
    }
}
