//! Listings: whole, page by page, and without a value.

use std::collections::BTreeSet;

use super::{World, expect_no_value};
use crate::ListQuery;

pub(super) async fn run<W: World, F: AsyncFn() -> W>(make: &F) {
    what_is_listed_can_be_referred_to(&make().await).await;
    labels_are_looked_for_or_not_told(&make().await).await;
}

/// Whoever looks for labels must not get what has none of them.
async fn labels_are_looked_for_or_not_told(world: &impl World) {
    let (org, manager) = (world.org(), world.manager());
    let path = world.pure().path();
    let folder = path.rfind('/').map_or("", |at| &path[..=at]);
    let mut query = ListQuery {
        prefix: folder.to_owned(),
        ..ListQuery::default()
    };
    let page = manager.list(&org, &query).await.expect("a page");
    if manager.lists_labels() {
        query.labels = vec!["nothing-has-this".into()];
        let page = manager.list(&org, &query).await.expect("a page");
        assert!(page.entries.is_empty(), "{page:?}");
    } else {
        let told = page.entries.iter().find(|entry| !entry.labels.is_empty());
        assert!(told.is_none(), "{told:?}");
    }
}

/// Walks the folders down to the pure secret: its path is in the listing of its folder, once.
async fn what_is_listed_can_be_referred_to(world: &impl World) {
    let (org, manager) = (world.org(), world.manager());
    let before = (world.values_given(), world.minted());
    let path = world.pure().path();
    let folder = path.rfind('/').map_or("", |at| &path[..=at]);
    let mut query = ListQuery {
        prefix: folder.to_owned(),
        ..ListQuery::default()
    };
    let (mut seen, mut pages) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let page = manager.list(&org, &query).await.expect("a page");
        expect_no_value(&format!("{page:?}"));
        for entry in page.entries {
            assert!(seen.insert(entry.path.clone()), "{} twice", entry.path);
        }
        query.page = page.next;
        match &query.page {
            Some(next) => assert!(pages.insert(next.clone()), "page {next} again"),
            None => break,
        }
    }
    assert!(seen.contains(&path), "{path} is not among {seen:?}");
    assert_eq!((world.values_given(), world.minted()), before);
}
