//! Exposure, gain, focus and the like.

use v4l::control::{Flags, Type};

use super::device::Control;

/// A value in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Setting {
    Integer(i64),
    Boolean(bool),
    /// An item of a menu.
    Text(String),
}

/// Which controls are set to what, in the order in which that must happen: what switches an
/// automatic comes before what the automatic would take care of.
///
/// # Errors
/// All settings that cannot be, with what could be.
pub(super) fn resolve<'c>(
    controls: &'c [Control],
    settings: &[(String, Setting)],
) -> Result<Vec<(&'c Control, i64)>, Vec<ControlFault>> {
    let mut resolved = vec![];
    let mut faults = vec![];
    for (name, setting) in settings {
        let Some(control) = controls.iter().find(|control| control.name == *name) else {
            let mut known: Vec<String> = controls.iter().map(|control| control.name.clone()).collect();
            known.sort_unstable();
            faults.push(ControlFault::Unknown { name: name.clone(), known });
            continue;
        };
        match value(control, setting) {
            Ok(value) => resolved.push((control, value)),
            Err(cause) => faults.push(ControlFault::Value { name: name.clone(), cause }),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let switches =
        |control: &Control| matches!(control.kind, Some(Type::Boolean | Type::Menu | Type::IntegerMenu));
    resolved.sort_by_key(|(control, _)| !switches(control));
    Ok(resolved)
}

/// A setting of a control that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ControlFault {
    #[error("there is no control `{name}`; the camera has: {}", names(.known))]
    Unknown {
        name: String,
        /// The controls of the camera.
        known: Vec<String>,
    },
    #[error("control {name}: {cause}")]
    Value { name: String, cause: ValueFault },
}

/// Why a control cannot be set to a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueFault {
    #[error("it is no number and cannot be set here")]
    NoNumber,
    #[error("it can only be read")]
    ReadOnly,
    #[error("expected {expected}")]
    Other { expected: String },
}

fn names(known: &[String]) -> String {
    if known.is_empty() { "none".into() } else { known.join(", ") }
}

fn value(control: &Control, setting: &Setting) -> Result<i64, ValueFault> {
    let Some(kind) = control.kind else { return Err(ValueFault::NoNumber) };
    if control.flags.contains(Flags::READ_ONLY) {
        return Err(ValueFault::ReadOnly);
    }
    let refuse = || Err(ValueFault::Other { expected: expected(control) });
    match (kind, setting) {
        (Type::Boolean, Setting::Boolean(value)) => Ok((*value).into()),
        (Type::Boolean, Setting::Integer(value @ (0 | 1))) => Ok(*value),
        (Type::Button, Setting::Boolean(true)) => Ok(1),
        (Type::Menu, Setting::Text(wanted)) => {
            let item = control.items.iter().find(|(_, name)| name.eq_ignore_ascii_case(wanted));
            item.map_or_else(refuse, |(index, _)| Ok(*index))
        }
        (Type::Menu, Setting::Integer(wanted)) if control.items.iter().any(|(index, _)| index == wanted) => {
            Ok(*wanted)
        }
        // The items of such a menu are numbers themselves.
        (Type::IntegerMenu, Setting::Integer(wanted)) => {
            let item = control.items.iter().find(|(_, name)| *name == wanted.to_string());
            item.map_or_else(refuse, |(index, _)| Ok(*index))
        }
        (Type::Bitmask, Setting::Integer(value)) if *value >= 0 && value & !control.maximum == 0 => {
            Ok(*value)
        }
        (Type::Integer | Type::Integer64, Setting::Integer(value)) => {
            let above = i128::from(*value) - i128::from(control.minimum);
            let inside = (control.minimum..=control.maximum).contains(value);
            let on_step = above % i128::from(control.step.max(1)) == 0;
            if inside && on_step { Ok(*value) } else { refuse() }
        }
        _ => refuse(),
    }
}

/// What a control may be set to.
pub(super) fn expected(control: &Control) -> String {
    let items = |quote: &str| {
        let item = |(_, name): &(i64, String)| format!("{quote}{name}{quote}");
        control.items.iter().map(item).collect::<Vec<_>>().join(", ")
    };
    match control.kind {
        Some(Type::Boolean) => "true or false".into(),
        Some(Type::Button) => "true".into(),
        Some(Type::Menu) => format!("one of {}", items("\"")),
        Some(Type::IntegerMenu) => format!("one of {}", items("")),
        Some(Type::Bitmask) => format!("bits of {:#x}", control.maximum),
        Some(_) if control.step > 1 => {
            format!("{} to {} in steps of {}", control.minimum, control.maximum, control.step)
        }
        Some(_) => format!("{} to {}", control.minimum, control.maximum),
        None => "nothing: it is no number".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(name: &str, kind: Type, (minimum, maximum, step): (i64, i64, u64)) -> Control {
        Control {
            id: 1,
            name: name.into(),
            kind: Some(kind),
            minimum,
            maximum,
            step,
            default: minimum,
            flags: Flags::empty(),
            items: vec![],
            value: None,
        }
    }

    fn camera() -> Vec<Control> {
        let mut exposure = control("auto_exposure", Type::Menu, (0, 3, 1));
        exposure.items = vec![(1, "Manual Mode".into()), (3, "Aperture Priority Mode".into())];
        let mut link = control("link_frequency", Type::IntegerMenu, (0, 1, 1));
        link.items = vec![(0, "500".into()), (1, "700".into())];
        let mut read_only = control("temperature", Type::Integer, (0, 99, 1));
        read_only.flags = Flags::READ_ONLY;
        vec![
            control("gain", Type::Integer, (-10, 100, 5)),
            exposure,
            control("focus_automatic_continuous", Type::Boolean, (0, 1, 1)),
            link,
            read_only,
            Control { kind: None, ..control("text", Type::String, (0, 9, 1)) },
            control("mask", Type::Bitmask, (0, 6, 0)),
            control("wide", Type::Integer64, (i64::MIN, i64::MAX, u64::MAX)),
        ]
    }

    fn one(name: &str, setting: Setting) -> Result<i64, Vec<ControlFault>> {
        resolve(&camera(), &[(name.into(), setting)]).map(|resolved| resolved[0].1)
    }

    #[test]
    fn values_become_numbers() {
        assert_eq!(one("gain", Setting::Integer(-5)), Ok(-5));
        assert_eq!(one("auto_exposure", Setting::Text("manual mode".into())), Ok(1));
        assert_eq!(one("auto_exposure", Setting::Integer(3)), Ok(3));
        assert_eq!(one("focus_automatic_continuous", Setting::Boolean(true)), Ok(1));
        assert_eq!(one("link_frequency", Setting::Integer(700)), Ok(1));
        assert_eq!(one("mask", Setting::Integer(4)), Ok(4));
        assert_eq!(one("wide", Setting::Integer(i64::MAX)), Ok(i64::MAX));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could() {
        for (name, setting, expected) in [
            ("gain", Setting::Integer(101), "control gain: expected -10 to 100 in steps of 5"),
            ("gain", Setting::Integer(1), "control gain: expected -10 to 100 in steps of 5"),
            ("gain", Setting::Boolean(true), "control gain: expected -10"),
            ("auto_exposure", Setting::Integer(2), "expected one of \"Manual Mode\", \"Aperture"),
            ("auto_exposure", Setting::Text("x".into()), "expected one of \"Manual Mode\""),
            ("focus_automatic_continuous", Setting::Integer(2), "expected true or false"),
            ("link_frequency", Setting::Integer(1), "expected one of 500, 700"),
            ("mask", Setting::Integer(1), "expected bits of 0x6"),
            ("temperature", Setting::Integer(1), "can only be read"),
            ("text", Setting::Text("x".into()), "cannot be set"),
            ("zoom", Setting::Integer(1), "no control `zoom`; the camera has: auto_exposure, focus_"),
        ] {
            let faults = one(name, setting).unwrap_err();
            assert!(faults.len() == 1 && faults[0].to_string().contains(expected), "{faults:?}");
        }
        let two = [("zoom".into(), Setting::Integer(1)), ("gain".into(), Setting::Integer(999))];
        let faults = resolve(&camera(), &two).unwrap_err();
        assert!(
            matches!(&faults[..], [ControlFault::Unknown { .. }, ControlFault::Value { .. }]),
            "{faults:?}"
        );
    }

    #[test]
    fn switches_come_first() {
        let settings = [
            ("gain".into(), Setting::Integer(0)),
            ("auto_exposure".into(), Setting::Integer(1)),
            ("focus_automatic_continuous".into(), Setting::Boolean(false)),
        ];
        let controls = camera();
        let order: Vec<&str> =
            resolve(&controls, &settings).unwrap().iter().map(|(control, _)| control.name.as_str()).collect();
        assert_eq!(order, ["auto_exposure", "focus_automatic_continuous", "gain"]);
    }
}
