"""The page on deeper training: rows that are there, changes against the tail, gains where a source was left out."""

from report_runs import make_rows, write_run

from geoalign.report.livestock_deep import PARTS, ROWS, SHORT, TAIL, main


def row(folder, name, noise, seed, methods=("plain",), **about):
    table = make_rows(noise, pairs=40, seed=seed)
    index = table["pair_id"].str.removeprefix("pair").astype(int)
    table["pair_id"] = [f"{i:06d}-horse_test_{i % 5}-horse_test_{5 + i % 3}:horse" for i in index]
    tables = dict.fromkeys(methods, table)
    write_run(folder / name / f"seed-{seed}" / "results" / "refined", name, tables, dataset="livestock", **about)


def test_the_page_compares_with_the_tail(tmp_path, capsys):
    for seed in (1, 2, 3):
        row(tmp_path, "livestock_deep-tail", 20.0, seed)
        row(tmp_path, "livestock_deep-lora", 60.0, seed)
        row(tmp_path, "livestock_deep-leave_sheep", 50.0, seed, fingerprint="other")
    row(tmp_path / SHORT, "livestock_deep-tail", 20.0, 1)
    row(tmp_path / SHORT, "livestock_deep-field", 60.0, 1)
    row(tmp_path, "livestock_deep-tail_ways", 20.0, 1, methods=("plain", "twice"))
    (tmp_path / "livestock_deep-upsample" / "seed-1").mkdir(parents=True)  # interrupted
    row(tmp_path, "livestock_deep-zero_shot_leave_sheep", 90.0, 1, fingerprint="other")
    assert main([str(tmp_path)]) == 0
    sections = {part.splitlines()[0]: part.splitlines() for part in capsys.readouterr().out.split("## ")[1:]}
    home, away, looks, parts = sections.values()  # no row was read with its flips: no table of poses
    lines = {line.split("|")[1].strip(): line for line in home if line[:2] == "| "}
    assert "hurts" in lines[ROWS["livestock_deep-lora"]]
    assert "hurts" not in lines[TAIL]
    assert not {ROWS["livestock_deep-px384"], ROWS["livestock_deep-upsample"]} & set(lines)
    assert any("trained without sheep" in line and " → " in line for line in away)
    assert any(TAIL in line for line in looks)
    assert any(PARTS["livestock_deep-field"] in line for line in parts)


def test_a_folder_without_rows_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "make table-livestock-deep" in capsys.readouterr().err
