"""The public sets as folders, and the floors that others computed on them, to the last digit given."""

from pathlib import Path

import numpy as np
import pytest

from dce_models import folder as folders
from dce_models.datasets import globo, sea
from dce_models.evaluate import bayes, metrics
from dce_models.spec import SpecError

SEA = "user,seq,block,is_masquerade,command\n"


def test_sea_gives_every_block_a_day_of_its_own(tmp_path: Path) -> None:
    rows = [f"{u},{b * 3 + i},{b},{int(b == 50)},c{i}" for u in (1, 2) for b in (49, 50) for i in range(3)]
    (tmp_path / "sea.csv").write_text(SEA + "\n".join(rows) + "\n")
    sea.convert(tmp_path / "sea.csv", tmp_path / "set")
    made = folders.open_folder(tmp_path / "set")
    clicks = list(folders.clicks(made))
    assert [c["event_time"] for c in clicks] == sorted(c["event_time"] for c in clicks)
    assert [(c["kind"], c["name"]) for c in clicks if c["customer_id"] == "u1" and c["session_id"] == "b49"] == [
        ("LOGIN", "c0"),
        ("ACTION", "c1"),
        ("LOGOUT", "c2"),
    ]
    assert [(x.session_id, x.label, x.split) for x in made.labels if x.customer_id == "u2"] == [
        ("b49", "0", "train"),
        ("b50", "1", "test"),
    ]
    past = [c["event_time"] for c in clicks if c["session_id"] == "b49"]
    assert made.cut_ms is not None
    assert max(past) < made.cut_ms == min(c["event_time"] for c in clicks if c["session_id"] == "b50")


def test_globo_labels_every_click_that_has_one_before_it(tmp_path: Path) -> None:
    header = ",".join(globo.COLUMNS)
    rows = ["1,s,a,30,1,2,3,4,5,6", "1,s,b,10,1,2,3,4,5,6", "2,t,c,20,1,2,3,4,5,6"]
    (tmp_path / "globo.csv").write_text("\n".join([header, *rows]) + "\n")
    globo.convert(tmp_path / "globo.csv", tmp_path / "set")
    made = folders.open_folder(tmp_path / "set")
    clicks = list(folders.clicks(made))
    assert [(c["name"], c["kind"]) for c in clicks] == [("b", "LOGIN"), ("c", "LOGIN"), ("a", "LOGOUT")]
    assert clicks[0]["attributes"]["region"] == "5"
    assert made.labels == []  # of three clicks the third lies behind 82 %


def test_a_file_that_is_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "sea.csv").write_text("user,seq\n1,2\n")
    with pytest.raises(SpecError, match="the column block is missing"):
        sea.convert(tmp_path / "sea.csv", tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.fixture(scope="module")
def sea_set(public_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> folders.Folder:
    out = tmp_path_factory.mktemp("sea") / "set"
    sea.convert(public_sets / "sea_masquerade.csv.zst", out)
    return folders.open_folder(out)


@pytest.mark.parametrize(("online", "published"), [(False, (0.9495, 0.6926, 0.3593)), (True, (0.9675, 0.8095, 0.5238))])
def test_naive_bayes_on_sea_is_the_published_floor(
    sea_set: folders.Folder, online: bool, published: tuple[float, float, float]
) -> None:
    names: dict[str, int] = {}
    customers: dict[str, int] = {}
    sessions: dict[tuple[str, str], list[int]] = {}
    for click in folders.clicks(sea_set):
        name = names.setdefault(click["name"], len(names))
        customers.setdefault(click["customer_id"], len(customers))
        sessions.setdefault((click["customer_id"], click["session_id"]), []).append(name)
    labels = {(x.customer_id, x.session_id): x for x in sea_set.labels}
    trained = np.array([labels[key].split == "train" for key in sessions])
    score = bayes.scores(
        np.array([customers[customer] for customer, _ in sessions]),
        [np.array(session) for session in sessions.values()],
        trained,
        len(names),
        online,
    )
    y = np.array([int(labels[key].label) for key in sessions])[~trained]
    assert (len(y), int(y.sum()), len(names)) == (5000, 231, 856)
    found = metrics.binary(y, score[~trained], probability=False)
    assert tuple(round(found[name] or 0, 4) for name in ("auc", "hit_at_5", "hit_at_1")) == published
