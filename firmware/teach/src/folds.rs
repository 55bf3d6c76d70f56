//! Folds for cross-validation: whole groups, and in each as much of every class as possible.

use crate::random::Random;

/// The fold of each photograph, `0..folds`, such that no group is in two folds.
///
/// `groups` and `classes` have an entry for each photograph. Groups are dealt out, the largest first
/// and equal ones in an order by `seed`, each to the fold that has least of what the group brings.
pub fn folds(groups: &[usize], classes: &[usize], folds: usize, seed: u64) -> Vec<usize> {
    let group_count = groups.iter().max().map_or(0, |group| group + 1);
    let class_count = classes.iter().max().map_or(0, |class| class + 1);
    let mut members = vec![vec![]; group_count];
    for (photograph, &group) in groups.iter().enumerate() {
        members[group].push(photograph);
    }
    let mut order: Vec<usize> = (0..group_count).collect();
    Random::new(seed, &[0xf01d]).shuffle(&mut order);
    order.sort_by_key(|&group| std::cmp::Reverse(members[group].len()));
    let mut counts = vec![vec![0_usize; class_count]; folds.max(1)];
    let mut found = vec![0; groups.len()];
    for group in order {
        let mut brings = vec![0_usize; class_count];
        members[group].iter().for_each(|&photograph| brings[classes[photograph]] += 1);
        let load = |fold: &usize| {
            let of_classes: usize = brings.iter().zip(&counts[*fold]).map(|(a, b)| a * b).sum();
            (of_classes, counts[*fold].iter().sum::<usize>())
        };
        let fold = (0..folds.max(1)).min_by_key(load).unwrap_or(0);
        for &photograph in &members[group] {
            found[photograph] = fold;
            counts[fold][classes[photograph]] += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_whole_and_classes_are_even() {
        // 60 photographs of 3 classes, in groups of 3 of one class.
        let groups: Vec<usize> = (0..60).map(|index| index / 3).collect();
        let classes: Vec<usize> = (0..60).map(|index| index / 3 % 3).collect();
        let found = folds(&groups, &classes, 5, 1);
        for group in 0..20 {
            assert!(
                (0..60).filter(|index| groups[*index] == group).all(|index| found[index] == found[group * 3])
            );
        }
        for fold in 0..5 {
            for class in 0..3 {
                let count = (0..60).filter(|&index| found[index] == fold && classes[index] == class).count();
                assert!((3..=6).contains(&count), "{fold} {class}: {count}");
            }
        }
        assert_eq!(found, folds(&groups, &classes, 5, 1));
    }
}
