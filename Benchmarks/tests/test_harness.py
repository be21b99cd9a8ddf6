"""Tests of the harness itself: python3 -m unittest discover Benchmarks/tests. No test looks at a real clock's figures."""

import pathlib
import random
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from tomos_bench import capacity, compare, environment, fleet, measure, plan, report, scenario, scenes, work  # noqa: E402
from tomos_bench import statistics as st  # noqa: E402
from tomos_bench.subjects import Failure, Subject  # noqa: E402

import numpy as np  # noqa: E402


def run_of(seed, slow=None, kernels=("plane", "slab", "maximum", "jpeg")):
    """The lines of a run of virtual kernels; the one named `slow` is handicapped by a tenth."""
    lines = [{"schema": "tomos-bench/1", "environment": {"commit": "x"}}]
    for i, kernel in enumerate(kernels):
        request = {"do": "run", "what": kernel, **({"handicap": 0.1} if kernel == slow else {})}
        with tempfile.NamedTemporaryFile() as starts:
            subject = Subject("tomos", [sys.executable, str(HERE / "virtual_worker.py"), str(100 * seed + i), starts.name], 1)

            def renew(s, request=request):
                s.stop()
                s.ask(**dict(request, do="prepare"))
                return True
            subject.ask(**dict(request, do="prepare"))
            figures, failed = measure.repeat([subject], lambda k: request, environment.Others(lambda: []), budget=1000, precision=0.015, renew=renew)
            subject.stop()
        f = figures["tomos"]
        # The virtual kernels know nothing of this machine's speed, which the anchor measures.
        lines.append({"case": f"frame/{kernel}", "suite": "frame", "subject": "tomos", "wall": f["wall"], "cpu": f["cpu"], "anchor": [0.001] * len(f["wall"]), "process": f["process"], "noise": [0.0], "counters": f["counters"]})
    return lines


class Statistics(unittest.TestCase):
    def test_interval_of_the_median_covers_it_as_often_as_it_says(self):
        rng, hits = random.Random(5), 0
        for _ in range(1000):
            low, high = st.median_interval([rng.lognormvariate(0, 0.5) for _ in range(25)])
            hits += low <= 1 <= high
        self.assertGreaterEqual(hits, 940)

    def test_few_samples_have_no_interval(self):
        self.assertIsNone(st.median_interval([1, 2, 3, 4, 5]))

    def test_rank_sum_is_fair_without_a_difference_and_sees_a_large_one(self):
        rng = random.Random(6)
        ps = [st.mann_whitney([rng.gauss(0, 1) for _ in range(20)], [rng.gauss(0, 1) for _ in range(20)]) for _ in range(500)]
        self.assertLess(sum(p < 0.05 for p in ps), 40)
        self.assertLess(st.mann_whitney(range(20), range(100, 120)), 1e-6)

    def test_students_tail_is_that_of_the_tables(self):
        for t, freedom, p in ((2.776, 4, 0.05), (3.169, 10, 0.01), (1.96, 1e6, 0.05), (0, 3, 1)):
            self.assertAlmostEqual(st.student_tail(t, freedom), p, delta=2e-4)
        rng = random.Random(7)
        ps = [st.welch([rng.gauss(0, 1) for _ in range(6)], [rng.gauss(0, 2) for _ in range(6)]) for _ in range(1000)]
        self.assertTrue(20 < sum(p < 0.05 for p in ps) < 75)

    def test_holm_multiplies_the_smallest_by_all(self):
        self.assertEqual(st.holm([0.01, 0.5, 0.02]), [0.03, 0.5, 0.04])


class Compare(unittest.TestCase):
    def test_the_same_program_twice_is_no_change_on_every_row(self):
        rows = compare.differences(run_of(1), run_of(2))
        self.assertEqual({v for _, _, v in rows}, {"no change"}, rows)

    def test_a_tenth_slower_kernel_is_detected_and_named(self):
        rows = compare.differences(run_of(3), run_of(4, slow="slab"))
        self.assertEqual([n for n, _, v in rows if v != "no change"], ["frame/slab"], rows)
        self.assertEqual([v for n, _, v in rows if n == "frame/slab"], ["slower"])

    def test_a_slower_machine_is_no_change(self):
        old, new = run_of(5), run_of(6)
        for r in new[1:]:
            r["cpu"], r["anchor"] = [1.3 * t for t in r["cpu"]], [1.3 * t for t in r["anchor"]]
        self.assertEqual({v for _, _, v in compare.differences(old, new)}, {"no change"})

    def test_a_machine_that_is_slower_at_what_the_anchor_does_not_do_is_no_change_where_a_peer_says_so(self):
        def beside_peer(lines, factor, slow=None):
            """Peers of every kernel, all slower by `factor`, as are the kernels; `slow` by another tenth."""
            for r in lines[1:]:
                r["cpu"] = [factor * (1.1 if r["case"] == slow else 1) * t for t in r["cpu"]]
            return lines + [{"case": r["case"], "suite": "frame", "subject": "vtk", "variant": "v", "cpu": [factor * t for t in (0.05, 0.051, 0.049, 0.05)]} for r in lines[1:]]
        old = beside_peer(run_of(3), 1)
        self.assertEqual({v for _, _, v in compare.differences(old, beside_peer(run_of(4), 1.3))}, {"no change"})
        self.assertEqual([(n, v) for n, _, v in compare.differences(old, beside_peer(run_of(4), 1.3, "frame/slab")) if v != "no change"], [("frame/slab", "slower")])

    def test_more_allocations_or_bytes_are_a_regression(self):
        old, new = run_of(7, kernels=("jpeg",)), run_of(8, kernels=("jpeg",))
        new[1]["counters"] = {"allocations": 90, "bytes": 1001}
        self.assertEqual(sorted(t for _, t, v in compare.differences(old, new) if v == "worse"), ["allocations 40 → 90", "bytes 1000 → 1001"])

    def test_cases_that_vanished_are_named(self):
        rows = compare.differences(run_of(9, kernels=("jpeg", "plane")), run_of(9, kernels=("jpeg",)))
        self.assertIn(("frame/plane", "only in the old run", "missing"), rows)


class Measuring(unittest.TestCase):
    def test_subjects_take_turns_and_a_broken_one_is_reported_not_hidden(self):
        starts = tempfile.NamedTemporaryFile()
        self.addCleanup(starts.close)
        subjects = [Subject(n, [sys.executable, str(HERE / "virtual_worker.py"), "1", starts.name], 1) for n in ("tomos", "peer")]
        for s in subjects:
            s.ask(do="prepare", what="x")
        figures, failed = measure.repeat(subjects, lambda k: {"do": "run", "what": "broken"}, environment.Others(lambda: []), 1, 0.02)
        self.assertEqual(failed, {"tomos": "this kernel is missing", "peer": "this kernel is missing"})
        figures, failed = measure.repeat(subjects, lambda k: {"do": "run", "what": "x"}, environment.Others(lambda: []), 5, 0.02)
        self.assertFalse(failed)
        for f in figures.values():
            self.assertTrue(measure.enough(f["wall"], 0.02))
        for s in subjects:
            s.stop()

    def test_a_fresh_case_is_set_up_before_each_repetition(self):
        asked = []

        class Recorder:
            name = "tomos"

            def ask(self, **request):
                asked.append(request["do"])
                return {"wall": 1e-3, "cpu": 1e-3}
        measure.repeat([Recorder()], lambda k: {"do": "run", "fresh": True}, environment.Others(lambda: []), 0.01, 0.02)
        self.assertEqual(set(asked[::2]), {"prepare"})
        self.assertEqual(set(asked[1::2]), {"run"})

    def test_a_subject_that_dies_is_a_failure_with_its_last_words(self):
        s = Subject("x", [sys.executable, "-c", "import os, sys, time; os.close(1); time.sleep(0.2); sys.exit('no library')"], 1)
        with self.assertRaisesRegex(Failure, "no library"):
            for _ in range(2):
                s.ask(do="prepare")
        s.stop()


class Scenarios(unittest.TestCase):
    def test_all_files_are_understood_and_names_are_unique(self):
        for profile in ("short", "full"):
            cases = scenario.load_all([], profile)
            self.assertGreater(len(cases), 12)
            for c in cases:
                for p in c["peers"]:
                    if c["suite"] not in ("stream", "rest"):
                        self.assertTrue((HERE.parent / "Peers" / f"{p}.py").exists(), p)

    def test_a_wrong_file_says_what_is_wrong(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as f:
            f.write('suite = "fram"\n')
            f.flush()
            with self.assertRaisesRegex(scenario.Wrong, "suite must be one of"):
                scenario.load(f.name, "short")

    def test_planes_lie_in_the_middle_and_move_along_their_normal(self):
        g = scenes.Geometry({"size": [64, 64, 32], "spacing": [1, 1, 2], "origin": [-31.5, -31.5, 0], "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1]})
        p = scenes.plane(g, "axial", (64, 64), 0)["plane"]
        np.testing.assert_allclose(p["origin"], [-31.5, -31.5, 31], atol=1e-9)
        q = scenes.plane(g, "axial", (64, 64), 1)["plane"]
        np.testing.assert_allclose(np.array(q["origin"]) - p["origin"], [0, 0, 1.37], atol=1e-9)

    def test_work_counts_each_touched_voxel_once(self):
        g = scenes.Geometry({"size": [100, 100, 50], "spacing": [1, 1, 1], "origin": [0, 0, 0], "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1]})
        w = work.of({"suite": "frame", "view": "camera", "fold": "maximum", "size": [100, 100]}, g)
        self.assertEqual(w["bytes"], 2 * 500_000 + 4 * 10_000)


class Reports(unittest.TestCase):
    def test_page_and_table_show_ratio_and_difference_of_pictures(self):
        env = {"cpu": "x", "cpus": 2, "system": "y", "commit": "abc", "changed": False, "time": "2026-01-01T00:00:00Z"}
        lines = [{"schema": "tomos-bench/1", "environment": env}, {"limits": {"fmaGFLOPs": 100, "readGBs": 10}},
                 {"case": "frame/a", "suite": "frame", "subject": "tomos", "wall": [0.001] * 8, "cpu": [0.001] * 8, "work": {"flops": 1e7, "bytes": 1e6}},
                 {"case": "frame/a", "suite": "frame", "subject": "vtk", "wall": [0.005] * 8, "cpu": [0.005] * 8, "agreement": {"figure": "12.0 dB", "agrees": False}},
                 {"case": "stream/b", "suite": "stream", "subject": "tomos", "skipped": "needs root"}]
        table = report.markdown(lines)
        self.assertIn("| 5.00 (5.00–5.00) | 5.00 |", table)
        self.assertIn("not measured: needs root", table)
        self.assertIn("10 % of arithmetic", table)
        self.assertIn("DIFFERS: 12.0 dB", report.row("frame/a", lines[2:4]))
        page = report.page(lines)
        self.assertIn("<svg", page)
        self.assertNotIn("src=", page)
        self.assertNotIn("http", page.split("<pre>")[0].replace("http://www.w3.org", ""))

    def test_a_peer_that_took_finer_steps_is_compared_by_its_picture_only(self):
        ours = {"case": "frame/a", "subject": "tomos", "wall": [0.001] * 8, "cpu": [0.001] * 8}
        theirs = {"case": "frame/a", "subject": "vtk", "step": 0.25, "wall": [0.005] * 8, "cpu": [0.005] * 8, "agreement": {"figure": "39.0 dB", "agrees": False}}
        self.assertEqual(report.ratio(theirs, ours), (None, None))
        self.assertTrue(report.row("frame/a", [ours, theirs]).endswith("vtk, step 0.25 DIFFERS: 39.0 dB"))
        env = {"cpu": "x", "cpus": 2, "system": "y", "commit": "abc", "changed": False, "time": "2026-01-01T00:00:00Z"}
        self.assertIn("| vtk, step 0.25 5 ms | – |  | 39.0 dB |", report.markdown([{"environment": env}, ours, theirs]))

    def test_a_gpu_is_measured_by_its_own_memory_and_a_software_driver_by_the_processor(self):
        limits = {"fmaGFLOPs": 100, "readGBs": 10, "devices": [{"name": "Card", "software": False, "copyGBs": 1000}, {"name": "llvmpipe", "software": True, "copyGBs": 5}]}
        r = {"wall": [0.001], "work": {"flops": 1e6, "bytes": 1e8}}
        on_card = report.attained(dict(r, variant="Vulkan, Card, driver 1"), limits)
        self.assertEqual((on_card["bound"], round(on_card["share"], 6)), ("device memory", 0.1))
        in_software = report.attained(dict(r, variant="Vulkan, llvmpipe"), limits)
        self.assertEqual((in_software["bound"], round(in_software["share"], 6)), ("memory", 10))

    def test_noise_is_said(self):
        self.assertTrue(report.noisy({"noise": [0.3, 0.4, 0.2]}))
        self.assertFalse(report.noisy({"noise": [0.0, 0.01, 0.9]}))


class Capacity(unittest.TestCase):
    MODEL = {"perSession": {"plane": {"a": 0.01, "b": 1e-7}, "volume": {"a": 0.05, "b": 4e-7}}, "pixels": 512 ** 2,
             "bytesPerSecond": {"plane": 3e5, "volume": 5e5}, "bytesPerSession": 4e6, "bytesPerVoxel": 2}

    def test_the_knee_is_found_between_the_last_good_and_the_first_bad(self):
        tried = []
        found, reached = capacity.knee(lambda n: {"sessions": n, "p95": 10 * n}, 130, 64, tried)
        self.assertTrue(reached)
        self.assertAlmostEqual(found, 13)
        self.assertEqual(capacity.knee(lambda n: {"sessions": n, "p95": 1}, 130, 8, []), (8, False))
        found, reached = capacity.knee(lambda n: {"sessions": n, "p95": 260 * n}, 130, 8, [])
        self.assertTrue(reached and found == 0.5)

    def test_the_model_predicts_knees_that_follow_its_law(self):
        def law(mode, size):
            return plan.share(self.MODEL, mode, size * size)
        fitted = capacity.fit([{"modes": [m], "size": s, "cores": 2, "sessions": 2 / law(m, s)} for m in plan.MODES for s in (256, 512)])
        model = {"perSession": fitted}
        self.assertAlmostEqual(plan.sessions(model, 2, {"plane": 1}, 384 ** 2), 2 / law("plane", 384), places=6)
        self.assertAlmostEqual(plan.sessions(model, 1, {"plane": 1}, 512 ** 2), 1 / law("plane", 512), places=6)
        half = (law("plane", 512) + law("volume", 512)) / 2
        self.assertAlmostEqual(plan.sessions(model, 2, {"plane": 0.5, "volume": 0.5}, 512 ** 2), 2 / half, places=6)

    def test_a_plan_names_what_is_short(self):
        def limit(cores=16, memory=128, link=1e9, mix=None):
            return plan.plan(self.MODEL, cores, memory, link, mix if mix is not None else {"plane": 0.3}, 512 ** 2, 600, 1)
        self.assertEqual(limit()["limit"], "memory")
        self.assertEqual(int(limit()["memory"]), int(64 * 2 ** 30 / (600 * 512 * 512 * 2 + 4e6)))
        self.assertEqual(limit(cores=1, memory=4096)["limit"], "cores")
        self.assertEqual(limit(memory=4096, link=10e6)["limit"], "link")
        self.assertEqual(limit(memory=4096, link=10e6)["sessions"], 33)
        self.assertEqual(limit(mix={})["limit"], "memory")
        self.assertEqual(plan.mix_of("plane=0.5,volume=0.2"), {"plane": 0.5, "volume": 0.2})
        for wrong in ("plane", "plane=x", "sphere=0.1", "plane=0.8,volume=0.4"):
            with self.assertRaises(SystemExit):
                plan.mix_of(wrong)

    def test_twice_the_readers_need_about_twice_the_nodes(self):
        one, two = (fleet.simulate(self.MODEL, n, 16, 128, 1)["nodes"] for n in (5000, 10000))
        self.assertTrue(1.6 <= two / one <= 2.4, (one, two))


if __name__ == "__main__":
    unittest.main()
