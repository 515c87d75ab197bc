"""A model in a process of its own: requests that run at once."""
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import small_classifier

from export.loaded import DiedError, LoadedModel, RunError

KEY = "serving_default"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_classifier.write(tmp_path_factory.mktemp("source") / "1")


def test_requests_at_once_are_answered_or_refused_one_by_one(version: Path) -> None:
    examples = small_classifier.images(3)
    with LoadedModel(version, ["serve"]) as model:
        model.loaded()
        answers = model.run_at_once([(KEY, {"image": examples}), (KEY, {"image": examples[..., :3]}),
                                     (KEY, {"image": examples[:1]})])
        assert [isinstance(one, RunError) for one in answers] == [False, True, False]
        alone = model.run(KEY, {"image": examples})["scores"]
    assert isinstance(answers[0], dict)
    assert isinstance(answers[2], dict)
    np.testing.assert_allclose(answers[0]["scores"], alone, rtol=1e-5)
    np.testing.assert_allclose(answers[2]["scores"], alone[:1], rtol=1e-5)


def test_what_goes_wrong_in_a_thread_is_no_answer(version: Path) -> None:
    """An error that is none of TensorFlow's ends the process, as it does for a request alone."""
    with LoadedModel(version, ["serve"], summary=itemgetter("missing")) as model:
        model.loaded()
        with pytest.raises(DiedError, match="KeyError: 'missing'"):
            model.run_at_once([(KEY, {"image": small_classifier.images(1)})] * 2)
