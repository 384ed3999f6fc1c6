"""Datasets of texts: what is a sample, who owns it, and what is refused."""

import json

import numpy as np
import pytest

from neulite_sim.data import shakespeare, synthetic_text, text_files
from neulite_sim.data.conformance import check_dataset
from neulite_sim.data.numbers import shortened
from neulite_sim.errors import DataNotFoundError, ScenarioError


def synthetic(**options):
    options = {"samples": 40, "test_samples": 8, "sequence_length": 24, "authors": 5} | options
    return synthetic_text.build(synthetic_text.SyntheticTextOptions(**options), 3)


def written(folder, **texts):
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(folder)


def leaf(folder, speakers):
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        data = {name: {"x": [text[n : n + 80] for n in range(len(text) - 80)], "y": list(text[80:])}
                for name, text in speakers.items()}  # fmt: skip
        content = {"users": list(data), "num_samples": [len(each["y"]) for each in data.values()], "user_data": data}
        (folder / part / "all.json").write_text(json.dumps(content))
    return str(folder)


@pytest.mark.parametrize("options", [{}, {"targets": "class"}, {"tokens": "words"}])
def test_made_up_texts_keep_the_contract_and_come_from_the_seed(options):
    first, again = synthetic(**options), synthetic(**options)
    check_dataset(first)
    assert np.array_equal(first.train_inputs, again.train_inputs)
    assert first.spec.predicts_tokens == (options.get("targets") != "class")


def test_each_target_is_the_token_after_it():
    made = synthetic()
    assert np.array_equal(made.train_inputs[:, 1:], made.train_labels[:, :-1])
    assert made.train_labels.base is made.train_inputs.base


def test_made_up_sentences_agree_in_gender():
    made = synthetic(samples=30, sequence_length=60, tokens="words")
    lexicon = synthetic_text._lexicon(synthetic_text.SyntheticTextOptions(), 3)
    for row in made.train_inputs:
        starts = [place for place in range(1, 50) if row[place - 1] == 0]
        for place in starts:
            determiner, _, noun, verb = row[place : place + 4]
            gender = (noun - lexicon.first_noun) % 2
            assert (determiner - 1) // 3 == gender == (verb - lexicon.first_verb) % 2


def test_a_shortened_dataset_has_the_same_samples_of_the_same_owners():
    whole = synthetic()
    short = shortened(whole, 10)
    check_dataset(short)
    assert np.array_equal(short.train_labels, whole.train_labels[:, :10])
    assert np.array_equal(short.groups, whole.groups)
    with pytest.raises(ScenarioError, match="is 25, but a sequence of data has 24 tokens; use 2 to 24"):
        shortened(whole, 25)


def test_a_folder_of_folders_has_files_as_owners_and_folders_as_classes(tmp_path):
    root = written(tmp_path, sea__a="abcdefghi" * 9, sea__b="xy" * 3, land__c="mnopq" * 12, **{".hidden": "no"})
    options = text_files.TextFilesOptions(path=root, sequence_length=8, targets="class", test_share=0.2)
    made = text_files.build(options, 0)
    check_dataset(made)
    assert made.spec.vocabulary == 256
    assert bytes(made.train_inputs[0].tolist()) == b"mnopqmno"
    assert np.array_equal(np.unique(made.groups[made.train_labels == 0]), [0])
    assert made.left_out == ("text: 1 file is shorter than a sequence of 8 tokens and the next, and left out",)
    # Windows follow each other: 60 bytes are 7 of 8 and the next, of which 2 are held out.
    assert ((made.train_labels == 0).sum(), (made.test_labels == 0).sum()) == (5, 2)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"a": "short"}, {}, "holds no training sequence of 64 tokens and the next"),
        ({"a": "long " * 99}, {"targets": "class"}, "class needs a folder of at least two folders"),
        ({"a": "long " * 99, "b__c": "x"}, {}, "is in no folder of a class \\(b\\)"),
        ({"a": "long " * 99}, {"train_samples": 99}, "99 is more than the 6 training samples of text"),
    ],
)
def test_texts_that_do_not_suffice_are_refused(tmp_path, files, options, message):
    root = written(tmp_path, **files)
    with pytest.raises((ScenarioError, DataNotFoundError), match=message):
        text_files.build(text_files.TextFilesOptions(path=root, **options), 0)


def test_a_tokenizer_gives_the_tokens(tmp_path):
    pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, "sea": 1, "land": 2}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "model": model, "added_tokens": []})
    )
    root = written(tmp_path / "texts", a="sea land sky " * 9)
    options = text_files.TextFilesOptions(path=root, tokenizer=str(tmp_path / "tokenizer.json"), sequence_length=4)
    made = text_files.build(options, 0)
    assert made.spec.vocabulary == 3
    assert made.train_inputs[0].tolist() == [1, 2, 0, 1]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ScenarioError, match=r"tokenizer.json is no tokenizer"):
        text_files.build(options, 0)


def test_speakers_of_leaf_are_owners_and_no_character_is_learned_twice(tmp_path):
    root = leaf(tmp_path, {"ROMEO": "But soft! " * 25, "JULIET": "O be some other name\u00e9" * 9})
    made = shakespeare.build(shakespeare.ShakespeareOptions(root=root), 0)
    check_dataset(made)
    assert made.train_inputs.shape == (2 + 3, 80)
    assert made.groups.tolist() == [0, 0, 1, 1, 1]
    text = "".join(shakespeare.ALPHABET[number] for number in made.train_inputs[2:].ravel())
    assert text == ("But soft! " * 25)[:240]
    assert "characters in" in made.left_out[0]
    classes = shakespeare.build(shakespeare.ShakespeareOptions(root=root, targets="class", sequence_length=20), 0)
    check_dataset(classes)
    assert len(classes.train_labels) == 170 + 109


def test_a_damaged_file_of_leaf_is_refused(tmp_path):
    root = leaf(tmp_path, {"ROMEO": "But soft! " * 9})
    with pytest.raises(ScenarioError, match="81 is more than the 80 characters of a text; use 2 to 80"):
        shakespeare.build(shakespeare.ShakespeareOptions(root=root, sequence_length=81), 0)
    path = tmp_path / "train" / "all.json"
    path.write_text(path.read_text().replace('"y": ["', '"y": ["!!'))
    with pytest.raises(DataNotFoundError, match="item 0 of y of 'ROMEO' is 3 characters, and 1 are needed"):
        shakespeare.build(shakespeare.ShakespeareOptions(root=root), 0)
