//! `resight deploy` against a board that is a folder: ssh and scp are scripts that work there,
//! and so are systemctl and resightd. What is tested is the order of things and what is left when
//! any of them fails or the power does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Commands of the board through which everything changes; the power can fail before or within
/// any of them.
const CHANGING: [&str; 8] = ["mv", "ln", "cp", "chmod", "sync", "rm", "mkdir", "systemctl"];

const SSH: &str = r#"#!/bin/sh
[ ! -e "$BOARD/off" ] || { echo "ssh: no route to host" >&2; exit 255; }
while [ "$1" != -- ]; do shift; done
shift 2
# The connection is lost within the trial.
case "$LOST $*" in yes*activate*) exec >&- 2>&- ;; esac
export RESIGHT_BASE="$BOARD/opt/resight" RESIGHT_UNITS="$BOARD/units" HOST_PATH="$PATH" PATH="$BOARD/bin:$PATH"
sh -c "$(printf %s "$*" | sed "s|/opt/resight|$BOARD/opt/resight|g")"
"#;

const SCP: &str = r#"#!/bin/sh
[ ! -e "$BOARD/off" ] || { echo "scp: no route to host" >&2; exit 255; }
while [ "$1" != -- ]; do shift; done
shift
for last; do :; done
folder=${last#*:}
while [ $# -gt 1 ]; do
    cp -L "$1" "$folder"
    echo "${1##*/}" >>"$BOARD/copied"
    [ "$CORRUPT" != "${1##*/}" ] || echo x >>"$folder/${1##*/}"
    shift
done
"#;

/// Counts, and ends everything where the power is to fail: a copy is cut in half then.
const WRAPPER: &str = r#"#!/bin/sh
name=${0##*/}
count=$(cat "$BOARD/count" 2>/dev/null || echo 0)
count=$((count + 1))
echo $count >"$BOARD/count"
if [ "$count" = "$POWER_FAILS_AT" ]; then
    : >"$BOARD/off"
    [ "$name" != cp ] || [ ! -f "$1" ] || head -c 10 "$1" >"$2" 2>/dev/null
    kill -9 "$PPID"
    exit 1
fi
# Flushing for real would only take time.
[ "$name" != sync ] || exit 0
[ "$name" != systemctl ] || exec "$BOARD/systemctl" "$@"
PATH="$HOST_PATH" exec "$name" "$@"
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
case $* in
    "--no-block restart resightd.service")
        rm -f "$BOARD/active"
        echo 0 >"$BOARD/restarts"
        folder=$(dirname "$(readlink -f "$RESIGHT_UNITS/resightd.service")")
        if grep -q 'does: crash' "$folder/resightd"; then echo 5 >"$BOARD/restarts"
        elif ! grep -q 'does: wait' "$folder/resightd"; then echo "${folder##*/}" >"$BOARD/active"; fi ;;
    "stop resightd.service") rm -f "$BOARD/active" ;;
    "--quiet is-active resightd.service") [ -e "$BOARD/active" ] ;;
    "show -p NRestarts --value resightd.service") cat "$BOARD/restarts" ;;
    daemon-reload | "reset-failed resightd.service") ;;
    *) echo "systemctl $*: not expected" >&2; exit 1 ;;
esac
"#;

const RESIGHTD: &str = r#"#!/bin/sh
# does: BEHAVIOUR
case $1 in
    --version) echo "resightd 9.9.9 (BEHAVIOUR)" ;;
    doctor) echo "problem: no camera"; exit 1 ;;
    check) [ -f "$2" ] ;;
    verify)
        shift; echo "$*" >>"$BOARD/judged"
        [ ! -e "$BOARD/foreign" ] || { echo "resightd: key A signed it, not key B" >&2; exit 1; } ;;
    self-test)
        [ "BEHAVIOUR" != miscalculate ] || { echo "resightd: golden vector 0: logit 0 is wrong" >&2; exit 1; }
        echo "golden vectors reproduced" ;;
    bench) echo "network 33 ms median" ;;
    health)
        [ "BEHAVIOUR" != crawl ] || { echo "resightd: 0.10 frames/s over $4 s, $6 are demanded" >&2; exit 1; }
        echo "25.00 frames/s over $4 s" ;;
esac
"#;

const CONFIGURATION: &str =
    "[model]\nfile = \"m.resight.tar\"\n[output]\nhttp = \"127.0.0.1:8600\"\n[source]\nkind = \"raw\"\n";

/// A small model file, quantised once.
fn model() -> &'static [u8] {
    static MODEL: OnceLock<Vec<u8>> = OnceLock::new();
    MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pictures")).unwrap();
        let picture = image::RgbImage::from_fn(48, 40, |x, y| image::Rgb([x as u8 * 5, y as u8 * 6, 99]));
        picture.save(folder.path().join("pictures/0.png")).unwrap();
        let names: String = (0..10).map(|class| format!("thing {class}\n")).collect();
        fs::write(folder.path().join("names.txt"), names).unwrap();
        let quantize = [
            "quantize",
            "n.onnx",
            "--calibration",
            "pictures",
            "--labels",
            "names.txt",
            "-o",
            "m.resight.tar",
        ];
        for arguments in [&["synth", "tiny-basic", "-o", "n.onnx"][..], &quantize] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_resight"));
            let output = command.args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        fs::read(folder.path().join("m.resight.tar")).unwrap()
    })
}

/// A workstation and a board.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "board/bin", "board/units", "board/tmp"] {
            fs::create_dir_all(scene.path(folder)).unwrap();
        }
        let wrappers = CHANGING.map(|name| (format!("board/bin/{name}"), WRAPPER));
        let others = [
            ("bin/ssh", SSH),
            ("bin/scp", SCP),
            ("board/systemctl", SYSTEMCTL),
            ("board/bin/uname", "#!/bin/sh\necho ${MACHINE:-aarch64}\n"),
            ("board/bin/id", "#!/bin/sh\necho ${USER_ID:-0}\n"),
            ("board/bin/sudo", "#!/bin/sh\n[ \"$SUDO\" = yes ] && shift && exec \"$@\"\n"),
            ("board/bin/sleep", "#!/bin/sh\n"),
            ("board/bin/stat", "#!/bin/sh\necho ${DISK:-ext2/ext3}\n"),
        ];
        for (name, text) in others.map(|(name, text)| (name.to_owned(), text)).into_iter().chain(wrappers) {
            scene.script(&name, text);
        }
        fs::write(scene.path("m.resight.tar"), model()).unwrap();
        fs::write(scene.path("c.toml"), CONFIGURATION).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes a resightd that behaves so.
    fn resightd(&self, behaviour: &str) {
        self.script("resightd", &RESIGHTD.replace("BEHAVIOUR", behaviour));
    }

    fn environment(&self, command: &mut Command) {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("BOARD", self.path("board")).env("TMPDIR", self.path("board/tmp"));
    }

    fn deploy(&self, more: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resight"));
        command
            .args(["deploy", "pi@board", "--model", "m.resight.tar"])
            .args(more)
            .current_dir(self.0.path());
        self.environment(&mut command);
        command.envs(environment.iter().copied());
        command.output().unwrap()
    }

    /// Deploys configuration and resightd too; gives what was printed.
    fn ok(&self, behaviour: &str) -> String {
        self.resightd(behaviour);
        let output = self.deploy(&["--config", "c.toml", "--resightd", "resightd"], &[]);
        assert!(output.status.success(), "{}", shown(&output));
        shown(&output)
    }

    fn fails(&self, more: &[&str], environment: &[(&str, &str)], words: &[&str]) {
        let output = self.deploy(more, environment);
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
    }

    fn link(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.path("board/opt/resight").join(name)).ok()?;
        Some(target.file_name().unwrap().to_str().unwrap().to_owned())
    }

    /// The behaviour that runs, all of its files whole.
    fn running(&self) -> Option<String> {
        let id = fs::read_to_string(self.path("board/active")).ok()?;
        assert_eq!(self.link("current").as_deref(), Some(id.trim()));
        let folder = self.path("board/opt/resight/current");
        let check =
            Command::new("sha256sum").args(["--quiet", "-c", "SHA256SUMS"]).current_dir(&folder).status();
        assert!(check.unwrap().success());
        let text = fs::read_to_string(folder.join("resightd")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("# does: ")).map(str::to_owned)
    }

    /// What systemd does when the power is back.
    fn boot(&self) {
        for name in ["board/off", "board/active", "board/count"] {
            let _ = fs::remove_file(self.path(name));
        }
        let run = |program: PathBuf, arguments: &[&str]| {
            let mut command = Command::new(program);
            self.environment(&mut command);
            let path = format!("{}:{}", self.path("board/bin").display(), std::env::var("PATH").unwrap());
            command.env("HOST_PATH", std::env::var("PATH").unwrap()).env("PATH", path);
            command.env("RESIGHT_BASE", self.path("board/opt/resight"));
            let output =
                command.env("RESIGHT_UNITS", self.path("board/units")).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", shown(&output));
        };
        let units = self.path("board/units/multi-user.target.wants");
        if units.join("resight-settle.service").exists() {
            run(self.path("board/opt/resight/release"), &["settle"]);
        }
        if units.join("resightd.service").exists() {
            run(self.path("board/systemctl"), &["--no-block", "restart", "resightd.service"]);
        }
    }

    fn releases(&self) -> usize {
        fs::read_dir(self.path("board/opt/resight/releases")).map_or(0, Iterator::count)
    }

    /// Names that scp has brought since the last call.
    fn copied(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("board/copied")).unwrap_or_default();
        let _ = fs::remove_file(self.path("board/copied"));
        let ours = ["release", "resight-settle.service", "SHA256SUMS"];
        let mut names: Vec<String> =
            text.lines().filter(|name| !ours.contains(name)).map(str::to_owned).collect();
        names.sort();
        names
    }
}

fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const ALL: [&str; 4] = ["--config", "c.toml", "--resightd", "resightd"];

#[test]
fn from_nothing_to_an_upgrade_only_what_changed_is_copied() {
    let scene = Scene::new();
    scene.resightd("work");
    let output = scene.deploy(&[&ALL[..], &["--dry-run"]].concat(), &[]);
    assert!(output.status.success() && shown(&output).contains("nothing was changed"), "{}", shown(&output));
    assert!(!scene.path("board/opt").exists());

    let printed = scene.ok("work");
    for words in
        ["resightd 9.9.9", "problem: no camera", "reproduced", "33 ms median", "25.00 frames/s over 10 s"]
    {
        assert!(printed.contains(words), "`{words}`: {printed}");
    }
    assert_eq!(scene.running().as_deref(), Some("work"));
    assert_eq!(scene.copied(), ["m.resight.tar", "resightd", "resightd.service", "resightd.toml"]);
    let unit = fs::read_to_string(scene.path("board/units/resightd.service")).unwrap();
    assert!(
        unit.contains("ExecStart=/opt/resight/current/resightd run /opt/resight/current/resightd.toml"),
        "{unit}"
    );
    assert_eq!(fs::read_dir(scene.path("board/tmp")).unwrap().count(), 0);

    assert!(scene.ok("work").contains("there already"));
    // Neither configuration nor binary: the board's own.
    assert!(shown(&scene.deploy(&[], &[])).contains("there already"));
    assert!(scene.copied().is_empty());

    let first = scene.link("current");
    scene.ok("work better");
    assert_eq!(scene.copied(), ["resightd"]);
    assert_eq!(scene.running().as_deref(), Some("work better"));
    assert_ne!(scene.link("current"), first);
    fs::write(scene.path("c.toml"), format!("{CONFIGURATION}# other\n")).unwrap();
    let output = scene.deploy(&["--config", "c.toml"], &[("USER_ID", "1000"), ("SUDO", "yes")]);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(scene.copied(), ["resightd.toml"]);
    // The current one and the one before.
    assert_eq!(scene.releases(), 2);
}

#[test]
fn what_does_not_work_is_taken_back() {
    let scene = Scene::new();
    scene.resightd("work");
    scene.fails(&["--config", "c.toml"], &[], &["no resightd there yet", "--resightd"]);
    scene.fails(&["--resightd", "resightd"], &[], &["no configuration there yet", "--config"]);
    scene.resightd("crash");
    scene.fails(&ALL, &[], &["ends again and again", "none is current", "taken back"]);
    assert_eq!((scene.running(), scene.link("current")), (None, None));
    assert!(!scene.path("board/units/resightd.service").is_symlink(), "the package's own unit counts again");

    scene.ok("work");
    for (behaviour, words) in [
        ("crash", "ends again and again"),
        ("wait", "not ready within 3 s"),
        ("crawl", "0.10 frames/s over 10 s, 5 are demanded"),
        ("miscalculate", "golden vector 0"),
    ] {
        scene.resightd(behaviour);
        let more = [&ALL[..], &["--ready-within", "3", "--at-least", "5"]].concat();
        scene.fails(&more, &[], &["pi@board", words]);
        assert_eq!(scene.running().as_deref(), Some("work"), "{behaviour}");
        assert_eq!(scene.link("good"), scene.link("current"));
    }
    // Nobody hears it, and the verdict is the same.
    for (behaviour, running) in
        [("crawl", "work"), ("work unheard", "work unheard"), ("wait", "work unheard")]
    {
        scene.resightd(behaviour);
        let more = [&ALL[..], &["--ready-within", "3", "--at-least", "5"]].concat();
        scene.deploy(&more, &[("LOST", "yes")]);
        assert_eq!(scene.running().as_deref(), Some(running), "{behaviour}");
        assert_eq!(scene.link("good"), scene.link("current"));
    }
    scene.script("resightd", "\u{7f}ELF for another machine");
    scene.fails(&ALL, &[], &["does not run on the board", "nothing was switched"]);
    scene.resightd("work again");
    scene.fails(&ALL, &[("CORRUPT", "resightd")], &["resightd did not arrive whole"]);
    assert_eq!(scene.running().as_deref(), Some("work unheard"));
    scene.ok("work again");
    assert_eq!(scene.running().as_deref(), Some("work again"));
}

#[test]
fn programs_are_signed_and_the_release_that_works_judges_the_next() {
    let scene = Scene::new();
    let resight = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resight"));
        let output = command.args(words).current_dir(scene.0.path()).output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
    };
    resight(&["keygen", "--output", "team"]);
    resight(&["sign", "m.resight.tar", "--key", "team.key"]);
    let signed = CONFIGURATION.replace("[model]\n", "[model]\npublic_key = \"team.pub\"\n");
    fs::write(scene.path("c.toml"), &signed).unwrap();
    scene.resightd("work");
    scene.fails(&ALL, &[], &["resightd.sig", "resight sign"]);
    resight(&["sign", "resightd", "--key", "team.key"]);
    scene.script("resightd", &format!("{}# altered\n", RESIGHTD.replace("BEHAVIOUR", "work")));
    scene.fails(&ALL, &[], &["did not sign this content"]);
    assert!(!scene.path("board/opt").exists() && scene.copied().is_empty());

    resight(&["sign", "resightd", "--key", "team.key"]);
    let deploy = |more: &[&str]| {
        let output = scene.deploy(more, &[]);
        assert!(output.status.success(), "{}", shown(&output));
    };
    deploy(&ALL);
    let names =
        ["m.resight.tar", "resightd", "resightd.service", "resightd.sig", "resightd.toml", "team.pub"];
    assert_eq!(scene.copied(), names);
    let judged = || {
        let text = fs::read_to_string(scene.path("board/judged")).unwrap_or_default();
        let _ = fs::remove_file(scene.path("board/judged"));
        text
    };
    assert_eq!(judged(), "", "nobody could judge the first one");

    // The board's own program keeps its signature.
    fs::write(scene.path("c.toml"), format!("{signed}# other\n")).unwrap();
    deploy(&["--config", "c.toml"]);
    assert_eq!(scene.copied(), ["resightd.toml"]);
    let good = scene.path("board/opt/resight/good");
    assert!(good.join("resightd.sig").is_file());
    let opt = scene.path("board/opt/resight").display().to_string();
    assert_eq!(judged(), format!("{opt}/good/resightd.toml {opt}/incoming\n"));

    let before = scene.link("good");
    fs::write(scene.path("board/foreign"), "").unwrap();
    for _ in 0..2 {
        fs::write(scene.path("c.toml"), &signed).unwrap();
        // Whether it comes or is there already, from before.
        scene.fails(
            &["--config", "c.toml"],
            &[],
            &["key A signed it, not key B", "does not accept this one"],
        );
        fs::write(scene.path("c.toml"), format!("{signed}# third\n")).unwrap();
        scene.fails(&["--config", "c.toml"], &[], &["does not accept this one"]);
        assert_eq!(scene.link("good"), before);
    }
    assert_eq!(judged().lines().count(), 4);
    deploy(&["--config", "c.toml", "--replace-key"]);
    assert_ne!(scene.link("good"), before);
    assert_eq!(judged(), "");
}

#[test]
fn a_release_is_signed_as_a_whole_with_a_number_that_grows() {
    let scene = Scene::new();
    let resight = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resight"));
        let output = command.args(words).current_dir(scene.0.path()).output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
    };
    resight(&["keygen", "--output", "team"]);
    resight(&["keygen", "--output", "other"]);
    resight(&["sign", "m.resight.tar", "--key", "team.key"]);
    let signed = CONFIGURATION.replace("[model]\n", "[model]\npublic_key = \"team.pub\"\n");
    fs::write(scene.path("c.toml"), &signed).unwrap();
    scene.resightd("work");
    let with = |more: &[&'static str]| [&ALL[..], more].concat();
    scene.fails(&with(&["--key", "other.key"]), &[], &["must be the other half of --key"]);
    // The program needs no signature of its own then.
    let deploy = |more: &[&str]| {
        let output = scene.deploy(more, &[]);
        assert!(output.status.success(), "{}", shown(&output));
    };
    deploy(&with(&["--key", "team.key"]));
    let good = scene.path("board/opt/resight/good");
    let number =
        || -> u64 { fs::read_to_string(good.join("release.number")).unwrap().trim().parse().unwrap() };
    let sums = fs::read(good.join("SHA256SUMS")).unwrap();
    let listed = String::from_utf8_lossy(&sums);
    for name in
        ["release.number", "resightd.service", "resightd.toml", "resightd", "m.resight.tar", "team.pub"]
    {
        assert!(listed.contains(&format!("  {name}\n")), "{name}: {listed}");
    }
    let key = resight_model_file::PublicKey::read(&scene.path("team.pub")).unwrap();
    key.check_release(&sums, &fs::read(good.join("SHA256SUMS.sig")).unwrap()).unwrap();
    let first = number();
    assert!(first > 1_700_000_000, "{first}");
    // The same files are the same release.
    let output = scene.deploy(&with(&["--key", "team.key"]), &[]);
    assert!(shown(&output).contains("there already"), "{}", shown(&output));
    fs::write(scene.path("c.toml"), format!("{signed}# other\n")).unwrap();
    deploy(&with(&["--key", "team.key"]));
    assert!(number() > first);
    fs::write(scene.path("c.toml"), format!("{signed}# third\n")).unwrap();
    deploy(&with(&["--key", "team.key", "--number", "5", "--older"]));
    assert_eq!(number(), 5);
    let judged = fs::read_to_string(scene.path("board/judged")).unwrap();
    assert!(judged.lines().last().unwrap().ends_with("incoming --older"), "{judged}");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_copied() {
    let scene = Scene::new();
    scene.resightd("work");
    let overlay = [("DISK", "overlayfs")];
    scene.fails(&ALL, &overlay, &["would be gone at the next start", "disable_overlayfs", "--overlay"]);
    assert!(scene.copied().is_empty());
    scene.fails(&ALL, &[("MACHINE", "armv7l")], &["armv7l, not aarch64"]);
    scene.fails(&ALL, &[("USER_ID", "1000")], &["sudo"]);
    fs::write(scene.path("board/off"), "").unwrap();
    scene.fails(&ALL, &[], &["pi@board", "no route to host"]);
    fs::remove_file(scene.path("board/off")).unwrap();
    for (from, to, words) in [
        ("\"m.resight.tar\"", "\"/srv/m.tar\"", "plain file name"),
        ("\"m.resight.tar\"", "\"resightd\"", "plain file name"),
        ("\"m.resight.tar\"", "\"resightd.sig\"", "plain file name"),
        ("[model]", "[model", "c.toml"),
        ("[model]\n", "[model]\npublic_key = \"k.pub\"\n", "k.pub"),
    ] {
        fs::write(scene.path("c.toml"), CONFIGURATION.replace(from, to)).unwrap();
        scene.fails(&ALL, &[], &[words]);
    }
    fs::write(scene.path("c.toml"), CONFIGURATION).unwrap();
    fs::write(scene.path("m.resight.tar"), &model()[..5000]).unwrap();
    scene.fails(&ALL, &[], &["m.resight.tar", "truncated"]);
    let output = Command::new(env!("CARGO_BIN_EXE_resight"))
        .args(["deploy", "--", "-oProxyCommand=x", "--model", "m.resight.tar"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!scene.path("board/opt").exists() && scene.copied().is_empty());
}

#[test]
fn wherever_the_power_fails_the_last_good_release_comes_back() {
    let mut steps = 0;
    loop {
        let scene = Scene::new();
        scene.ok("work");
        fs::remove_file(scene.path("board/count")).unwrap();
        steps += 1;
        scene.resightd("work better");
        let output = scene.deploy(&ALL, &[("POWER_FAILS_AT", &steps.to_string())]);
        if output.status.success() && !scene.path("board/off").exists() {
            // There was no such step any more.
            assert_eq!(scene.running().as_deref(), Some("work better"));
            break;
        }
        scene.boot();
        let running = scene.running();
        let good = scene.link("good");
        assert!(good.is_some() && scene.link("current") == good, "step {steps}");
        // From the verdict on the new one is the good one.
        let judged = shown(&output).contains("frames/s");
        let allowed = if judged { &["work", "work better"][..] } else { &["work"] };
        assert!(allowed.contains(&running.as_deref().unwrap_or_default()), "step {steps}: {running:?}");
        scene.ok("work better");
        assert_eq!(scene.running().as_deref(), Some("work better"), "step {steps}");
    }
    assert!(steps > 25, "{steps}");
    println!("{steps} steps");
}

#[test]
fn a_board_that_never_stops_talking_is_left() {
    let scene = Scene::new();
    scene.resightd("work");
    scene.script("bin/ssh", "#!/bin/sh\nexec yes\n");
    scene.fails(&ALL, &[], &["pi@board: probe: it answers with more than 1 MiB"]);
}

#[test]
fn an_update_goes_on_when_nobody_reads_what_it_says() {
    let scene = Scene::new();
    scene.resightd("work");
    let mut command = Command::new(env!("CARGO_BIN_EXE_resight"));
    command.args(["deploy", "pi@board", "--model", "m.resight.tar"]).args(ALL).current_dir(scene.0.path());
    scene.environment(&mut command);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(scene.running().as_deref(), Some("work"));
}

#[test]
fn names_that_mean_something_else_are_refused() {
    let scene = Scene::new();
    scene.resightd("work");
    for (lines, words) in [
        ("file = \"release\"", "model.file is `release`; to be deployed it must be a plain file name"),
        ("file = \"resight-settle.service\"", "model.file is `resight-settle.service`; to be deployed"),
        ("file = \"\"", "model.file is ``; to be deployed"),
        ("file = \"a\"\npublic_key = \"a\"", "model.file and model.public_key are both `a`"),
    ] {
        fs::write(scene.path("c.toml"), CONFIGURATION.replace("file = \"m.resight.tar\"", lines)).unwrap();
        scene.fails(&ALL, &[], &[words]);
    }
    assert!(!scene.path("board/opt").exists());

    fs::write(scene.path("c.toml"), CONFIGURATION).unwrap();
    scene.ok("work");
    for id in ["", "../../precious", ".", "a b"] {
        fs::create_dir_all(scene.path("board/precious")).unwrap();
        let mut command = Command::new("sh");
        scene.environment(&mut command);
        command.env("RESIGHT_BASE", scene.path("board/opt/resight"));
        command.env("RESIGHT_UNITS", scene.path("board/units"));
        let output =
            command.arg(scene.path("board/opt/resight/release")).args(["remove", id]).output().unwrap();
        let text = shown(&output);
        assert!(!output.status.success() && text.contains("names no release"), "{id}: {text}");
    }
    assert!(scene.path("board/precious").exists());
    assert_eq!((scene.running().as_deref(), scene.releases()), (Some("work"), 1));
}
