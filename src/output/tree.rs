//! The order of a process tree, and the lines drawn before its rows. Parents come from a live system and
//! may contradict each other: no row is dropped for that, and nothing here recurses or loops forever.

use std::cmp::Ordering;

/// Levels whose lines are drawn; deeper rows are shown at this level after a mark.
const LEVELS: usize = 64;

/// The position of a row in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreePosition {
    /// Its index in the list that was ordered.
    pub index: usize,
    /// Number of its ancestors; 0 for a root.
    pub depth: usize,
    /// Whether it is the last of its siblings.
    pub last: bool,
}

/// Orders rows as a tree: each below its parent, siblings by `compare` (a total order of indices), equal
/// ones as they came. `parents` has the index of each row's parent. A row is a root if its parent is
/// missing, out of range or itself; of rows that are each other's ancestors (PIDs reused during the
/// snapshot) the first by `compare` is.
pub fn order(
    parents: &[Option<usize>],
    mut compare: impl FnMut(usize, usize) -> Ordering,
) -> Vec<TreePosition> {
    let mut sorted: Vec<usize> = (0..parents.len()).collect();
    sorted.sort_by(|a, b| compare(*a, *b));

    let mut children: Vec<Vec<usize>> = vec![Vec::new(); parents.len()];
    let mut roots = Vec::new();
    let parents = without_cycles(parents, &sorted);
    for index in sorted {
        match parents[index] {
            Some(parent) => children[parent].push(index),
            None => roots.push(index),
        }
    }

    let mut positions = Vec::with_capacity(parents.len());
    let mut stack = Vec::new();
    push(&mut stack, &roots, 0);
    while let Some(position) = stack.pop() {
        positions.push(position);
        push(&mut stack, &children[position.index], position.depth + 1);
    }
    positions
}

/// Returns the positions without some rows that have no children.
pub fn without(
    positions: Vec<TreePosition>,
    is_dropped: impl Fn(usize) -> bool,
) -> Vec<TreePosition> {
    let mut kept: Vec<TreePosition> =
        positions.into_iter().filter(|position| !is_dropped(position.index)).collect();
    // Of each level, whether a later sibling has been seen.
    let mut later: Vec<bool> = Vec::new();
    for position in kept.iter_mut().rev() {
        later.resize(position.depth + 1, false);
        position.last = !std::mem::replace(&mut later[position.depth], true);
    }
    kept
}

/// Pushes siblings so that the first is popped first.
fn push(stack: &mut Vec<TreePosition>, siblings: &[usize], depth: usize) {
    let positions = siblings.iter().enumerate().map(|(nth, index)| TreePosition {
        index: *index,
        depth,
        last: nth + 1 == siblings.len(),
    });
    stack.extend(positions.rev());
}

/// Returns the parents with each cycle opened above its first member in `sorted`. Every row is visited
/// once: a walk up ends at a root, at a row of an earlier walk or at one of its own rows, and only the
/// last of these is a cycle.
fn without_cycles(parents: &[Option<usize>], sorted: &[usize]) -> Vec<Option<usize>> {
    let mut parents: Vec<Option<usize>> =
        parents.iter().map(|parent| parent.filter(|p| *p < parents.len())).collect();
    let mut rank = vec![0; parents.len()];
    for (nth, index) in sorted.iter().enumerate() {
        rank[*index] = nth;
    }
    let mut walks: Vec<Option<usize>> = vec![None; parents.len()];
    for start in 0..parents.len() {
        let mut row = start;
        while walks[row].is_none() {
            walks[row] = Some(start);
            row = parents[row].unwrap_or(row);
        }
        if walks[row] != Some(start) || parents[row].is_none() {
            continue;
        }
        let mut top = row;
        let mut member = parents[row];
        while let Some(next) = member.filter(|next| *next != row) {
            if rank[next] < rank[top] {
                top = next;
            }
            member = parents[next];
        }
        parents[top] = None;
    }
    parents
}

/// Returns the lines before each row of an ordered tree. Roots have none.
///
/// ```text
/// init
/// ├─ sshd
/// │  └─ bash
/// └─ cron
/// ```
///
/// Beyond 64 levels the lines would fill any terminal (and take the square of the depth in all), so a
/// deeper row is at that level behind `…`, in ASCII `+`.
pub fn prefixes(positions: &[TreePosition], unicode: bool) -> Vec<String> {
    let (tee, corner, trunk, deeper) = if unicode {
        ("├─ ", "└─ ", "│  ", "…  ")
    } else {
        ("|- ", "`- ", "|  ", "+  ")
    };
    let mut prefixes = Vec::with_capacity(positions.len());
    // For each level above the row: whether its ancestor there is the last of its siblings.
    let mut ended: Vec<bool> = Vec::with_capacity(LEVELS);
    for position in positions {
        let mut prefix = String::new();
        if let Some(level) = position.depth.checked_sub(1) {
            ended.truncate(level);
            for last in &ended {
                prefix.push_str(if *last { "   " } else { trunk });
            }
            if level >= LEVELS {
                prefix.push_str(deeper);
            }
            prefix.push_str(if position.last { corner } else { tee });
            if level < LEVELS {
                ended.push(position.last);
            }
        } else {
            ended.clear();
        }
        prefixes.push(prefix);
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw(parents: &[Option<usize>], unicode: bool) -> Vec<String> {
        let positions = order(parents, |a, b| a.cmp(&b));
        let prefixes = prefixes(&positions, unicode);
        positions
            .iter()
            .zip(prefixes)
            .map(|(position, prefix)| format!("{prefix}{}", position.index))
            .collect()
    }

    #[test]
    fn a_tree_is_drawn_under_its_roots() {
        let parents = [None, Some(0), Some(1), Some(0), Some(3), None, Some(5)];
        assert_eq!(draw(&parents, true), ["0", "├─ 1", "│  └─ 2", "└─ 3", "   └─ 4", "5", "└─ 6"]);
        assert_eq!(draw(&parents, false), ["0", "|- 1", "|  `- 2", "`- 3", "   `- 4", "5", "`- 6"]);
        assert!(draw(&[], true).is_empty());
    }

    #[test]
    fn siblings_are_sorted() {
        let parents = [None, Some(0), Some(0), None];
        let order = order(&parents, |a, b| b.cmp(&a));
        assert_eq!(order.iter().map(|p| p.index).collect::<Vec<_>>(), [3, 0, 2, 1]);
        assert!(order[0].depth == 0 && !order[0].last && order[1].last);
    }

    #[test]
    fn dropped_rows_leave_the_lines_of_a_tree() {
        let parents = [None, Some(0), Some(1), Some(0), Some(0), None];
        let kept = without(order(&parents, |a, b| a.cmp(&b)), |index| index > 2);
        let lines = prefixes(&kept, true);
        assert_eq!(lines, ["", "└─ ", "   └─ "]);
        assert!(without(order(&parents, |a, b| a.cmp(&b)), |_| true).is_empty());
    }

    #[test]
    fn contradictory_parents_lose_no_row() {
        assert_eq!(draw(&[Some(0)], true), ["0"]);
        assert_eq!(draw(&[Some(7), Some(usize::MAX)], true), ["0", "1"]);
        assert_eq!(draw(&[Some(1), Some(2), Some(1)], true), ["1", "├─ 0", "└─ 2"]);
        assert_eq!(draw(&[Some(1), Some(0), Some(3), Some(2)], true), ["0", "└─ 1", "2", "└─ 3"]);
    }

    #[test]
    fn a_tree_of_20000_levels_is_drawn_within_64() {
        let parents: Vec<_> = (0..20_000usize).map(|i| i.checked_sub(1)).collect();
        let lines = draw(&parents, true);
        assert_eq!(lines.len(), 20_000);
        assert!(lines[64].ends_with("   └─ 64"));
        assert!(lines[65].ends_with("   …  └─ 65"));
        assert_eq!(lines[19_999].chars().count(), 3 * 66 + 5);
    }

    #[test]
    fn impossible_depths_are_drawn() {
        let position = |depth| TreePosition { index: 0, depth, last: false };
        let drawn = prefixes(&[position(3), position(usize::MAX), position(0), position(2)], true);
        assert_eq!(drawn, ["├─ ", "│  …  ├─ ", "", "├─ "]);
    }

    proptest! {
        #[test]
        fn any_parents_yield_every_row_once(
            parents in proptest::collection::vec(proptest::option::of(0usize..40), 0..40)
        ) {
            let positions = order(&parents, |a, b| (a % 7).cmp(&(b % 7)));
            let mut seen: Vec<_> = positions.iter().map(|p| p.index).collect();
            seen.sort();
            prop_assert_eq!(seen, (0..parents.len()).collect::<Vec<_>>());
            for pair in positions.windows(2) {
                prop_assert!(pair[1].depth <= pair[0].depth + 1);
            }
            prop_assert_eq!(prefixes(&positions, true).len(), positions.len());
        }
    }
}
