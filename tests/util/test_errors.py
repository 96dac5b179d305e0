from howdeep.util.errors import UserError, unknown


def test_an_unknown_name_gets_the_nearest_known_ones() -> None:
    error = unknown("network", "cifar_resnet_20", ["cifar_resnet20", "densenet121"])
    assert str(error) == "unknown network 'cifar_resnet_20'; did you mean cifar_resnet20?"


def test_an_unknown_name_with_nothing_near_gets_all_of_them_in_order() -> None:
    assert str(unknown("mode", "zzz", ["sample", "batch"])) == "unknown mode 'zzz'; known: batch, sample"


def test_a_users_mistake_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)
    assert isinstance(unknown("mode", "x", []), UserError)
