"""The sources of files: official layouts, folders, a hospital's table."""

from pathlib import Path

import pytest
from PIL import Image

from skinsynth.lesions.catalogue import present
from skinsynth.lesions.folders import FoldersConfig, read_folders
from skinsynth.lesions.hospital import TableConfig, read_hospital_table
from skinsynth.lesions.isic import FLAG_OF, IsicConfig, read_isic
from skinsynth.lesions.isic2017 import Isic2017Config, read_isic2017
from skinsynth.lesions.phantom import PhantomConfig, Rate
from skinsynth.lesions.sources import SourceConfigs, load_catalogue
from skinsynth.lesions.table import COLUMNS, read_lesions, write_lesions

CLASSES = ("benign", "malignant")
NEVER = Rate(0.0, 0.0)


def configs(root: Path) -> SourceConfigs:
    return SourceConfigs(
        phantom=PhantomConfig(0, 12, 4.0, 0.1, 0.5, 0.2, 32, NEVER, NEVER, NEVER, NEVER, 0.0, 0.0),
        isic=IsicConfig(str(root)),
        isic2017=Isic2017Config(str(root)),
        folders=FoldersConfig(str(root), licence=""),
        table=TableConfig(str(root / "lesions.csv"), str(root / "images"), licence="own"),
    )


def image_at(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path)


def test_the_official_csvs_hold_the_set_of_the_paper(isic):
    catalogue = read_isic(IsicConfig(str(isic)))
    table = catalogue.table
    assert len(table) == 37_648
    assert table["source"].value_counts().to_dict() == {"ISIC 2020": 33_126, "ISIC 2019": 4_522}
    assert table["malignancy"].value_counts().to_dict() == {"benign": 32_542, "malignant": 584 + 4_522}
    assert table.loc[table["source"] == "ISIC 2020", "patient_id"].nunique() == 2_056
    assert (table.loc[table["source"] == "ISIC 2019", "patient_id"] == "").all()
    assert table["image_id"].is_unique
    assert set(table["licence"]) == {"CC BY-NC 4.0"}
    assert set(table["hair"]) <= {"", "0", "1"}
    assert not set(table["age"]) & {"unknown", "nan", "45.0"}


def test_rows_without_their_image_are_counted_and_left_out(isic):
    catalogue = load_catalogue("isic", configs(isic), CLASSES)
    assert len(catalogue.table) == 2_108 + 940
    assert catalogue.table["label"].sum() == 31 + 940
    about_patients, note = catalogue.notes
    assert "ISIC 2019 names no patients" in about_patients
    assert f"{37_648 - 3_048} of 37648 rows have no image" in note
    assert catalogue.rows_without_image == 37_648 - 3_048
    assert all(catalogue.pictures[image_id].is_file() for image_id in catalogue.table["image_id"][:20])
    assert catalogue.table["image_id"].is_monotonic_increasing


def test_frames_are_more_frequent_on_malignant_lesions_in_isic(isic):
    table = read_isic(IsicConfig(str(isic))).table
    frames = (
        table[table["black_frame"] != ""].groupby("malignancy")["black_frame"].apply(lambda flag: (flag == "1").mean())
    )
    assert frames["malignant"] > 5 * frames["benign"]


def test_isic_2017_has_three_classes(isic):
    classes = ("melanoma", "seborrheic keratosis", "nevus")
    table = read_isic2017(Isic2017Config(str(isic))).table
    assert table["diagnosis"].value_counts().to_dict() == {"nevus": 1372, "melanoma": 374, "seborrheic keratosis": 254}
    assert "unknown" not in set(table["sex"]) | set(table["age"])
    with pytest.raises(ValueError, match=r"no image of class 'seborrheic keratosis' \(images: melanoma 114"):
        load_catalogue("isic2017", configs(isic), classes)
    found = load_catalogue("isic2017", configs(isic), ("melanoma", "nevus")).table
    assert found["label"].value_counts().to_dict() == {1: 342, 0: 114}


@pytest.mark.parametrize("source", ["isic", "isic2017", "folders", "table"])
def test_a_source_without_files_says_what_is_missing_where(tmp_path, source):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)) as caught:
        load_catalogue(source, configs(tmp_path / "nothing"), CLASSES)
    assert "\n" not in str(caught.value)


def test_a_row_that_says_its_label_twice_and_differently_is_refused(isic, tmp_path):
    for path in isic.glob("*.csv"):
        (tmp_path / path.name).symlink_to(path)
    truth = tmp_path / "ISIC_2020_Training_GroundTruth_v2.csv"
    lines = truth.read_text().splitlines()
    truth.unlink()
    assert lines[5].endswith("benign,0")
    truth.write_text("\n".join([*lines[:5], lines[5][:-1] + "1", *lines[6:]]))
    with pytest.raises(ValueError, match=rf"{lines[5].split(',')[0]} is benign with target '1' \(1 such rows\)"):
        read_isic(IsicConfig(str(tmp_path)))


def test_csvs_without_any_image_are_an_error(isic, tmp_path):
    for path in isic.glob("*.csv"):
        (tmp_path / path.name).symlink_to(path)
    assert len(read_isic(IsicConfig(str(tmp_path))).table) == 37_648
    with pytest.raises(FileNotFoundError, match="none of the 37648 rows") as caught:
        load_catalogue("isic", configs(tmp_path), CLASSES)
    for folder in ("ISIC_2020_Training_JPEG/train", "ISIC_2019_Training_Input"):
        assert str(tmp_path / folder) in str(caught.value)
    assert ".jpg)" in str(caught.value)


def test_melanomas_of_2019_alone_lack_the_benign_images_of_2020(isic, tmp_path):
    for path in [*isic.glob("*.csv"), isic / "ISIC_2019_Training_Input"]:
        (tmp_path / path.name).symlink_to(path)
    words = f"benign images come from ISIC 2020.* only melanomas .*{tmp_path / 'ISIC_2020_Training_JPEG/train'}"
    with pytest.raises(ValueError, match=words):
        load_catalogue("isic", configs(tmp_path), CLASSES)


def test_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="phantom, isic, isic2017, folders, table"):
        load_catalogue("ham10000", configs(tmp_path), CLASSES)


def test_folders_keep_the_given_test_set(tmp_path):
    for name in ("train/benign/12.jpg", "train/malignant/12.jpg", "test/benign/1 2.png", "test/malignant/deep/3.TIF"):
        image_at(tmp_path / name)
    (tmp_path / "train" / "benign" / "Thumbs.db").write_text("no image")
    table = load_catalogue("folders", configs(tmp_path), CLASSES).table.set_index("image_id")
    assert sorted(table.index) == ["test-benign-1_2", "test-malignant-deep-3", "train-benign-12", "train-malignant-12"]
    assert table["given_split"].to_dict()["train-benign-12"] == "train"
    assert table.loc["test-malignant-deep-3", ["given_split", "label"]].tolist() == ["test", 1]
    assert (table["patient_id"] == "").all()


def test_folders_without_sides_fix_no_split(tmp_path):
    for name in ("nevus/a.jpg", "seborrheic_keratosis/a.jpg"):
        image_at(tmp_path / name)
    catalogue = load_catalogue("folders", configs(tmp_path), ("nevus", "seborrheic keratosis"))
    assert catalogue.table["image_id"].tolist() == ["nevus-a", "seborrheic_keratosis-a"]
    assert catalogue.table["diagnosis"].tolist() == ["nevus", "seborrheic keratosis"]
    assert set(catalogue.table["given_split"]) == {""}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["beningn/a.jpg", "malignant/a.jpg"], "did you mean 'benign'"),
        (["benign/a.jpg"], "no image of class 'malignant'"),
        (["benign/a.jpg", "benign/a.png", "malignant/a.jpg"], "rename one"),
    ],
)
def test_wrong_folders_get_one_clear_line(tmp_path, files, words):
    for name in files:
        image_at(tmp_path / name)
    with pytest.raises(ValueError, match=words):
        load_catalogue("folders", configs(tmp_path), CLASSES)


@pytest.mark.parametrize("name", ["val", "validation", "Train", "benign"])
def test_images_beside_train_and_test_are_not_dropped_unsaid(tmp_path, name):
    for path in ("train/benign/a.jpg", "test/malignant/a.jpg", f"{name}/benign/b.jpg"):
        image_at(tmp_path / path)
    with pytest.raises(
        ValueError, match=f"{tmp_path / name} holds 1 images beside train and test: move them"
    ) as caught:
        load_catalogue("folders", configs(tmp_path), CLASSES)
    assert "\n" not in str(caught.value)


def test_what_a_system_leaves_beside_train_and_test_is_no_image(tmp_path):
    for path in ("train/benign/a.jpg", "test/malignant/a.jpg", "__MACOSX/train/b.jpg", ".cache/b.jpg", "notes/.b.jpg"):
        image_at(tmp_path / path)
    (tmp_path / "notes" / "protocol.txt").write_text("no image")
    assert len(load_catalogue("folders", configs(tmp_path), CLASSES).table) == 2


def test_folders_read_webp_and_leave_texts_and_hidden_files_beside(tmp_path):
    for path in ("benign/a.webp", "malignant/deep/b.WEBP", "malignant/.thumbnails/b.png", "__MACOSX/benign/a.png"):
        image_at(tmp_path / path)
    for path in ("benign/labels.csv", "benign/.DS_Store", "benign/desktop.ini", "README"):
        (tmp_path / path).write_text("no image")
    assert set(load_catalogue("folders", configs(tmp_path), CLASSES).pictures) == {"benign-a", "malignant-deep-b"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("benign/deep/b.gif", r"benign holds 1 files of a format that is not read .*'deep/b\.gif': convert them"),
        ("b.jpg", r"holds 1 images in no class's folder, such as 'b\.jpg': move them"),
    ],
)
@pytest.mark.parametrize("side", ["", "train/"])
def test_what_folders_do_not_read_is_refused_by_name(tmp_path, side, path, words):
    for name in ("benign/a.jpg", "malignant/a.jpg", path):
        image_at(tmp_path / side / name)
    with pytest.raises(ValueError, match=rf"^[^\n]*{words}[^\n]*$"):
        load_catalogue("folders", configs(tmp_path), CLASSES)


def test_an_image_beside_train_and_test_is_refused_by_name(tmp_path):
    for name in ("train/benign/a.jpg", "test/malignant/a.jpg", "b.jpg"):
        image_at(tmp_path / name)
    with pytest.raises(ValueError, match=r"1 images in no class's folder, such as 'b\.jpg'"):
        load_catalogue("folders", configs(tmp_path), CLASSES)


def test_linked_folders_are_followed_at_the_top_of_a_class_and_refused_below(tmp_path):
    root = tmp_path / "root"
    for path in (root / "benign/a.jpg", root / "malignant/deep/a.jpg", tmp_path / "elsewhere/b.jpg"):
        image_at(path)
    (root / "benign/linked").symlink_to(tmp_path / "elsewhere")
    assert "benign-linked-b" in load_catalogue("folders", configs(root), CLASSES).pictures
    (root / "malignant/deep/linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"malignant/deep/linked is a link to a folder: put the folder itself there"):
        load_catalogue("folders", configs(root), CLASSES)


def test_folders_take_a_folder_that_is_a_link(tmp_path):
    image_at(tmp_path / "elsewhere/benign/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert len(read_folders(FoldersConfig(str(tmp_path / "link"), ""), CLASSES).table) == 1


@pytest.fixture
def hospital(tmp_path) -> Path:
    for name in ("a.jpg", "sub/b.png", "c.tif"):
        image_at(tmp_path / "images" / name)
    return tmp_path


def table_of(hospital: Path, text: str):
    (hospital / "lesions.csv").write_text(text)
    return load_catalogue("table", configs(hospital), CLASSES).table


def test_a_hospitals_table_is_read(hospital):
    table = table_of(
        hospital,
        "path,patient_id,label,age,nurse\na.jpg,P1,benign,50,x\nsub/b.png,P1,melanoma,,y\nc.tif,P2,nevus,30,z\nd.jpg,P3,benign,,\n",
    ).set_index("image_id")
    assert sorted(table.index) == ["a", "c", "sub-b"]
    assert table["label"].to_dict() == {"a": 0, "sub-b": 1, "c": 0}
    assert table["diagnosis"].to_dict() == {"a": "", "sub-b": "melanoma", "c": "nevus"}
    assert table["patient_id"].to_dict() == {"a": "P1", "sub-b": "P1", "c": "P2"}
    assert set(table["licence"]) == {"own"}
    notes = present(read_hospital_table(configs(hospital).table)).notes
    assert any("nurse" in note for note in notes)
    assert any("1 of 4 rows have no image" in note and str(hospital / "images" / "d.jpg") in note for note in notes)


@pytest.mark.parametrize("word", ["unknown", "Unknown", "NA", "n/a", "None", "nan", "-", "?"])
def test_words_for_unknown_join_no_strangers(hospital, word):
    text = f"path,patient_id,label,lesion_id,age\na.jpg,{word},benign,{word},{word}\nc.tif,{word},malignant,{word},\n"
    table = table_of(hospital, text)
    assert set(table["patient_id"]) == set(table["lesion_id"]) == set(table["age"]) == {""}
    notes = read_hospital_table(configs(hospital).table).notes
    assert any("2 of 2 rows name no patient" in note for note in notes)


def test_a_lesion_may_be_on_one_patient_and_on_unknown_ones(hospital):
    text = "path,patient_id,label,lesion_id\na.jpg,P1,benign,7\nsub/b.png,P1,malignant,7\nc.tif,,benign,7\n"
    assert table_of(hospital, text)["lesion_id"].tolist() == ["7", "7", "7"]


def test_a_table_whose_images_are_elsewhere_names_one_of_them(hospital):
    with pytest.raises(FileNotFoundError, match=rf"{hospital / 'images/x/d.jpg'}\): put the images into {hospital}"):
        table_of(hospital, "path,patient_id,label\nx/d.jpg,P1,benign\nx/e.jpg,P1,malignant\n")


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/passwd", "sub/../../secret.jpg", "..\\secret.jpg", "C:/a.jpg", ""]
)
def test_paths_out_of_the_folder_are_refused(hospital, path):
    image_at(hospital / "secret.jpg")
    with pytest.raises(ValueError, match="leads from the image folder"):
        table_of(hospital, f"path,patient_id,label\na.jpg,P1,benign\n{path},P1,malignant\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,patient,label\na.jpg,P1,benign\n", "no column 'patient_id': did you mean 'patient'"),
        ("path,patient_id,label\na.jpg,P1,benign\na.jpg,P1,malignant\n", "'a.jpg' has two rows: leave one"),
        (
            "path,patient_id,label\nläsion.png,P1,benign\nlösion.png,P1,malignant\n",
            "'läsion.png' and 'lösion.png' both get the id 'l_sion': .* image_id",
        ),
        ("path,patient_id,label\na.jpg,P1,benign\na.png,P1,benign\n", "'a.jpg' and 'a.png' both get the id 'a'"),
        ("path,patient_id,label,image_id\na.jpg,P1,benign,1\nc.tif,P1,benign,1\n", "give each an image_id of its own"),
        ("path,patient_id,label,image_id\na.jpg,P1,benign,a b\n", "lesions.csv: image_id 'a b'"),
        (
            "path,patient_id,label,age\na.jpg,P1,benign,45 years\nc.tif,P2,malignant,50\n",
            r"lesions.csv: an age is a number of years or nothing, but '45 years' came \(1 rows\)",
        ),
        ("path,patient_id,label,age\na.jpg,P1,benign,1957\n", "but '1957' came"),
        ("path,patient_id,label,hair\na.jpg,P1,benign,yes\n", r"/lesions.csv: hair is one of .* 'yes' \(1 rows\)"),
        ("path,patient_id,label,given_split\na.jpg,P1,benign,val\n", "/lesions.csv: given_split is one of"),
        (
            "path,patient_id,label,lesion_id\na.jpg,P1,benign,0\nc.tif,P2,malignant,0\n",
            "lesion_id '0' belongs to patients 'P1' and 'P2': write lesion ids that are unique across patients",
        ),
        ("path,patient_id,label\na.jpg,P1,benign\nc.tif,P1,Malignant\n", "did you mean 'malignant'.* same capitals$"),
        ("path,patient_id,label\na.jpg,P1,benign\nc.tif,P1,malignnt\n", "did you mean 'malignant'.* or add"),
        ("path,patient_id,label\na.jpg,P1,benign\nc.tif,P1,MEL\n", "did you mean 'melanoma'"),
        ("path,patient_id,label\na.jpg,P1,benign\nsub/b.png,P1,scar\n", r"scar \(1\)"),
        ("path,patient_id,label\na.jpg,P1,benign\n", "no image of class 'malignant'"),
        ("path,patient_id,label,image_id\na.jpg,P1,benign,\n", "no image_id"),
    ],
)
def test_wrong_tables_get_one_clear_line(hospital, text, words):
    with pytest.raises(ValueError, match=words) as caught:
        table_of(hospital, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["phantom", "isic"])
def test_what_a_source_says_fits_into_lesions_csv(isic, tmp_path, source):
    table = load_catalogue(source, configs(isic), CLASSES).table
    write_lesions(tmp_path / "lesions.csv", table)
    found = read_lesions(tmp_path / "lesions.csv")
    assert tuple(found.columns) == COLUMNS
    assert found["label"].tolist() == table["label"].tolist()


def test_hair_of_any_kind_is_hair(tmp_path):
    rows = "".join(f"ISIC_{number},P1,,,benign,,,,0\n" for number in range(5))
    files = {
        "ISIC_2020_Training_GroundTruth_v2.csv": "image_name,patient_id,lesion_id,diagnosis,benign_malignant,sex,"
        f"age_approx,anatom_site_general_challenge,target\n{rows}",
        "ISIC_2020_Training_Duplicates.csv": "image_name_1,image_name_2\n",
        "ISIC_2019_Training_GroundTruth.csv": "image,MEL\n",
        "ISIC_2019_Training_Metadata.csv": "image,lesion_id,sex,age_approx,anatom_site_general\n",
        "artefact_pseudo_annotations_ISIC2020.csv": "image_name,hair_dense,hair_short,hair_medium,black_frame,"
        "ruler_mark,other\nISIC_0.jpg,1,0,0,0,0,0\nISIC_1.jpg,0,1,0,0,0,0\nISIC_2.jpg,0,0,1,0,0,0\n"
        "ISIC_3.jpg,0,0,0,1,1,1\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    flags = read_isic(IsicConfig(str(tmp_path))).table.set_index("image_id")[["hair", *FLAG_OF.values()]]
    assert flags["hair"].tolist() == ["1", "1", "1", "0", ""]
    assert flags.loc["ISIC_3"].tolist() == ["0", "1", "1", "1"]
    assert flags.loc["ISIC_4"].tolist() == [""] * 4
